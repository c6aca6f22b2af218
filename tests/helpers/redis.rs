//! Real Redis servers on free ports: alone, as a replica, as a sentinel, as nodes of a cluster.

use std::net::TcpListener;
use std::process::Stdio;
use std::time::{Duration, Instant};

use redis::Value;
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::PATIENCE;
use super::process::signal;

/// A server that dies with its test.
pub struct Redis {
    pub port: u16,
    child: Child,
    folder: TempDir,
    args: Vec<String>,
}

/// A port that was free a moment ago, below those that the kernel gives out, with room for a
/// cluster's second port.
pub fn free_port() -> u16 {
    loop {
        let port = 10_000 + rand::random::<u16>() % 10_000;
        let both = [port, port + 10_000].map(|port| TcpListener::bind(("127.0.0.1", port)));
        if both.iter().all(Result::is_ok) {
            return port;
        }
    }
}

fn spawn(port: u16, folder: &TempDir, args: &[String]) -> Child {
    let port = port.to_string();

    Command::new("redis-server")
        .args(args)
        .args([
            "--port",
            &port,
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--dir",
        ])
        .arg(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("redis-server is installed (tests/run does)")
}

impl Redis {
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// With more arguments, or a file that comes first.
    pub async fn with(args: &[&str]) -> Self {
        let (port, folder) = (free_port(), TempDir::new().unwrap());
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let child = spawn(port, &folder, &args);
        let server = Self {
            port,
            child,
            folder,
            args,
        };
        server.answers().await;
        server
    }

    /// A sentinel that watches this primary alone and gives it up after 300 ms.
    pub async fn sentinel_of(primary: &Self) -> Self {
        let (port, folder) = (free_port(), TempDir::new().unwrap());
        let file = folder.path().join("sentinel.conf");
        let text = format!(
            "sentinel monitor mymaster 127.0.0.1 {} 1\nsentinel down-after-milliseconds mymaster \
            300\nsentinel failover-timeout mymaster 3000\n",
            primary.port
        );

        std::fs::write(&file, text).unwrap();
        let args = vec![file.display().to_string(), "--sentinel".to_owned()];
        let child = spawn(port, &folder, &args);
        let server = Self {
            port,
            child,
            folder,
            args,
        };

        server.answers().await;
        server
    }

    /// Three nodes that have all slots between them.
    pub async fn cluster() -> [Self; 3] {
        let args = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"];
        let nodes = [
            Self::with(&args).await,
            Self::with(&args).await,
            Self::with(&args).await,
        ];

        let mut create = Command::new("redis-cli");
        create
            .args(["--cluster", "create"])
            .args(nodes.iter().map(|n| format!("127.0.0.1:{}", n.port)));
        let made = create.args(["--cluster-yes"]).output().await.unwrap();

        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stdout)
        );

        nodes
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// This one as a store of shared health.
    pub fn alone(self) -> Nodes {
        Nodes {
            url: self.url(),
            nodes: vec![self],
        }
    }

    /// One command, as a client of its own.
    pub async fn ask(&self, command: &[&str]) -> Result<Value, redis::RedisError> {
        let client = redis::Client::open(self.url())?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        let mut cmd = redis::cmd(command[0]);
        cmd.arg(&command[1..]).query_async(&mut connection).await
    }

    async fn answers(&self) {
        let began = Instant::now();
        while let Err(error) = self.ask(&["PING"]).await {
            // "A password is needed" is an answer, too.
            if error.code().is_some() {
                return;
            }
            assert!(
                began.elapsed() < PATIENCE,
                "redis-server does not answer: {error}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn signal(&self, what: Signal) {
        signal(&self.child, what);
    }

    pub async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// Starts it again on its port, empty.
    pub async fn restart(&mut self) {
        self.child = spawn(self.port, &self.folder, &self.args);
        self.answers().await;
    }
}

/// A store of shared health, whatever it consists of.
pub struct Nodes {
    pub url: String,
    pub nodes: Vec<Redis>,
}

impl Nodes {
    /// Three nodes that have all slots between them.
    pub async fn cluster() -> Self {
        let nodes: Vec<Redis> = Redis::cluster().await.into();
        let hosts: Vec<String> = nodes
            .iter()
            .map(|node| format!("127.0.0.1:{}", node.port))
            .collect();
        Self {
            url: format!("redis+cluster://{}", hosts.join(",")),
            nodes,
        }
    }

    /// The same command to all.
    pub async fn ask_all(&self, command: &[&str]) -> Vec<Value> {
        let mut answers = Vec::new();
        for node in &self.nodes {
            answers.push(node.ask(command).await.unwrap());
        }
        answers
    }

    pub fn signal(&self, what: Signal) {
        self.nodes.iter().for_each(|node| node.signal(what));
    }

    pub async fn kill(&mut self) {
        for node in &mut self.nodes {
            node.kill().await;
        }
    }

    pub async fn restart(&mut self) {
        for node in &mut self.nodes {
            node.restart().await;
        }
    }
}
