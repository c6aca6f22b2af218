//! What a gateway has to know of its sandbox, inside or elsewhere: where its control and its faces
//! are, and its credentials.

use std::net::SocketAddr;
use std::time::Duration;

use providers::ProviderName;
use serde_json::Value;

use crate::config::Config;
use crate::installation::StartError;
use crate::redact;

/// A sandbox, as far as the demo merchant has to know it.
#[derive(Debug, Clone)]
pub struct SandboxSide {
    /// Its control's address.
    pub control_url: String,
    /// What `GET /faces` says.
    pub faces: serde_json::Map<String, Value>,
    /// What `GET /credentials` says.
    pub credentials: serde_json::Map<String, Value>,
}

/// Where the faces of the sandbox are that a gateway of this configuration runs or uses; `None`
/// without one, and for one whose ports are only known once it runs.
pub async fn faces(config: &Config) -> Option<serde_json::Map<String, Value>> {
    let listen = config.sandbox.listen.as_str();
    if listen.starts_with("http://") {
        return look_up(listen).await.ok().map(|side| side.faces);
    }
    let control: SocketAddr = listen
        .parse()
        .ok()
        .filter(|control: &SocketAddr| control.port() != 0)?;
    let faces = face_addresses(control).into_iter();
    Some(
        faces
            .map(|(name, address)| (name.to_string(), format!("http://{address}").into()))
            .collect(),
    )
}

/// The ports after the control's.
pub(super) fn face_addresses(control: SocketAddr) -> Vec<(ProviderName, SocketAddr)> {
    let at = |place| {
        if control.port() == 0 {
            0
        } else {
            control.port().saturating_add(place)
        }
    };
    let places = providers::PROTOCOLS.iter().zip(1_u16..);
    places
        .map(|(protocol, place)| (protocol.name, SocketAddr::new(control.ip(), at(place))))
        .collect()
}

pub(super) async fn look_up(url: &str) -> Result<SandboxSide, StartError> {
    let url = url.trim_end_matches('/');
    let client = providers::http::Client::new(url, &providers::http::Way::Open)
        .map_err(|e| StartError::Sandbox(e.to_string()))?;
    let get = async |path: &str| -> Result<serde_json::Map<String, Value>, StartError> {
        let request = providers::http::Request {
            method: http::Method::GET,
            target: path.to_owned(),
            headers: http::HeaderMap::new(),
            body: bytes::Bytes::new(),
            timeout: Duration::from_secs(5),
        };
        let answer = client
            .send(request)
            .await
            .map_err(|_| StartError::Sandbox(format!("no sandbox answers at {url}")))?;
        serde_json::from_slice(&answer.body)
            .map_err(|_| StartError::Sandbox(format!("{url}{path} is no sandbox")))
    };

    Ok(SandboxSide {
        control_url: url.to_owned(),
        faces: get("/faces").await?,
        credentials: get("/credentials").await?,
    })
}

/// Where the control of a sandbox inside is to listen.
pub(super) fn control_address(address: &str) -> Result<SocketAddr, StartError> {
    address.parse().map_err(|_| {
        let shown = if address.contains('@') {
            redact::address(address)
        } else {
            format!("{address:?}")
        };
        StartError::Sandbox(format!(
            "{shown} is neither off, an http address, nor address:port"
        ))
    })
}
