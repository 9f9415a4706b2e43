//! Counts the words of each request, as a worker of its own:
//!     cargo run --manifest-path examples/workers/rust/Cargo.toml tcp://127.0.0.1:5556

use std::error::Error;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{sleep, timeout};
use zeromq::{RepSocket, Socket, SocketRecv, SocketSend, ZmqMessage};

async fn answer(socket: &mut RepSocket, request: ZmqMessage) -> Result<(), Box<dyn Error>> {
    let words = |frame: &[u8]| String::from_utf8_lossy(frame).split_whitespace().count();
    let count: usize = request.iter().map(|frame| words(frame)).sum();
    Ok(socket.send(count.to_string().into()).await?)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut socket = RepSocket::new();
    let endpoint = std::env::args().nth(1).ok_or("usage: worker ENDPOINT")?;
    let mut terminate = signal(SignalKind::terminate())?;
    socket.connect(&endpoint).await?;
    loop {
        tokio::select! {
            request = socket.recv() => answer(&mut socket, request?).await?,
            _ = terminate.recv() => break,
        }
    }
    // To a worker that is silent for that long repd sends nothing more.
    sleep(Duration::from_millis(100)).await;
    while let Ok(request) = timeout(Duration::from_millis(1), socket.recv()).await {
        answer(&mut socket, request?).await?;
    }
    Ok(())
}
