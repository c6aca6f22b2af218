//! Where workers stop. A worker runs alone from one step that writes or calls to the next, and
//! waits there until it is told to go on; or it dies there. The steps that write are the kill
//! points; the calls are those of the stand-in provider.

use std::sync::{Once, mpsc as sync};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::shop::{Call, Said};
use interlock::testing::kill;

/// No step takes as long as this: then something hangs that must not.
const PATIENCE: Duration = Duration::from_secs(30);

tokio::task_local! {
    static SEAT: mpsc::UnboundedSender<Stop>;
}

/// Where a worker stands.
#[derive(Debug)]
pub enum Stop {
    /// At a kill point.
    Point(&'static str, sync::Sender<()>),
    /// At a call, which nobody has answered yet.
    Call(Box<Call>, oneshot::Sender<Said>),
    /// At its end.
    Over(Result<(), String>),
}

/// A worker of a gateway.
#[derive(Debug)]
pub struct Worker {
    pub name: String,
    stops: mpsc::UnboundedReceiver<Stop>,
    task: JoinHandle<()>,
}

impl Worker {
    /// Starts one; it is on its way to its first stop.
    pub fn start(
        name: String,
        work: impl Future<Output = Result<(), String>> + Send + 'static,
    ) -> Self {
        let (seat, stops) = mpsc::unbounded_channel();
        let over = seat.clone();
        let work = async move {
            let done = work.await;
            let _ = over.send(Stop::Over(done));
        };
        Self {
            name,
            stops,
            task: tokio::spawn(SEAT.scope(seat, work)),
        }
    }

    /// Waits until it stops.
    pub async fn stop(&mut self) -> Stop {
        let stop = tokio::time::timeout(PATIENCE, self.stops.recv()).await;
        let stop = stop.unwrap_or_else(|_| panic!("{} neither stops nor ends", self.name));
        stop.unwrap_or_else(|| Stop::Over(Err("it panicked".to_owned())))
    }

    /// It dies where it stands: nothing of it is done any more.
    pub async fn die(self, at: Stop) {
        self.task.abort();
        drop(at);
        let _ = self.task.await;
    }
}

/// Makes kill points stop whoever has a seat. For the whole process.
pub fn take_the_points() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for name in kill::POINTS {
            fail::cfg_callback(*name, move || stop_at(name)).unwrap();
        }
    });
}

fn stop_at(name: &'static str) {
    let Ok(seat) = SEAT.try_with(Clone::clone) else {
        return;
    };
    let (go_on, wait) = sync::channel();
    if seat.send(Stop::Point(name, go_on)).is_ok()
        && tokio::task::block_in_place(|| wait.recv()).is_err()
    {
        // Without the noise of a panic: this is how a worker dies here.
        std::panic::resume_unwind(Box::new("died"));
    }
}

/// Stops at a call, and returns what it is told.
pub async fn call(call: Call) -> Said {
    let seat = SEAT.with(Clone::clone);
    let (answer, said) = oneshot::channel();
    let _ = seat.send(Stop::Call(Box::new(call), answer));
    match said.await {
        Ok(said) => said,
        // It died while it waited.
        Err(_) => std::future::pending().await,
    }
}
