//! An address that stays the same while the gateways behind it die and come back, like that of a
//! load balancer.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Passes connections on to the gateway of the moment; while there is none, they are dropped.
pub struct Front {
    pub url: String,
    behind: Arc<Mutex<Option<SocketAddr>>>,
    accepting: JoinHandle<()>,
}

impl Front {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let behind: Arc<Mutex<Option<SocketAddr>>> = Arc::default();
        let gateway = Arc::clone(&behind);
        let accepting = tokio::spawn(async move {
            while let Ok((mut from, _)) = listener.accept().await {
                let address = *gateway.lock();
                tokio::spawn(async move {
                    let Some(address) = address else { return };
                    let Ok(mut to) = TcpStream::connect(address).await else {
                        return;
                    };
                    let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
                });
            }
        });

        Self {
            url,
            behind,
            accepting,
        }
    }

    pub fn lead_to(&self, gateway: SocketAddr) {
        *self.behind.lock() = Some(gateway);
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
