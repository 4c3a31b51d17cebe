//! A TCP relay that delays each direction: a network between two ends on one machine.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes that are read at once.
const CHUNK: usize = 64 << 10;

/// Starts a relay to `to`, in threads that end with their connections; gives where it listens. Bytes come
/// out `delay` after they went in, as many as there are: it has a delay and no bandwidth.
pub fn relay(to: SocketAddr, delay: Duration) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for near in listener.incoming().map_while(Result::ok) {
            let Ok(far) = TcpStream::connect(to) else {
                continue;
            };
            for (from, to) in [(&near, &far), (&far, &near)] {
                if let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) {
                    let _ = to.set_nodelay(true);
                    carry(from, to, delay);
                }
            }
        }
    });
    Ok(address)
}

fn carry(mut from: TcpStream, to: TcpStream, delay: Duration) {
    let (sender, receiver) = channel();
    thread::spawn(move || put(to, &receiver, delay));
    thread::spawn(move || take(&mut from, &sender));
}

/// An empty chunk is the end.
type Chunk = (Instant, Vec<u8>);

fn take(from: &mut TcpStream, sender: &Sender<Chunk>) {
    loop {
        let mut chunk = vec![0; CHUNK];
        let read = match from.read(&mut chunk) {
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(_) => 0,
        };
        chunk.truncate(read);
        if sender.send((Instant::now(), chunk)).is_err() || read == 0 {
            return;
        }
    }
}

fn put(mut to: TcpStream, receiver: &Receiver<Chunk>, delay: Duration) {
    let mut waiting = VecDeque::new();
    while let Ok(first) = receiver.recv() {
        waiting.push_back(first);
        while let Some((at, chunk)) = waiting.pop_front() {
            thread::sleep((at + delay).saturating_duration_since(Instant::now()));
            if chunk.is_empty() || to.write_all(&chunk).is_err() {
                let _ = to.shutdown(Shutdown::Write);
                return;
            }
            waiting.extend(receiver.try_iter());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_later_and_all_of_them() {
        let echo = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = echo.local_addr().unwrap();
        thread::spawn(move || {
            let (mut socket, _) = echo.accept().unwrap();
            let mut back = socket.try_clone().unwrap();
            std::io::copy(&mut socket, &mut back).unwrap();
            back.shutdown(Shutdown::Write).unwrap();
        });
        let delay = Duration::from_millis(20);
        let mut socket = TcpStream::connect(relay(to, delay).unwrap()).unwrap();
        let sent: Vec<u8> = (0..1_000_000u32).map(|n| n as u8).collect();
        let began = Instant::now();
        let mut writer = socket.try_clone().unwrap();
        let bytes = sent.clone();
        thread::spawn(move || {
            writer.write_all(&bytes).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut came = Vec::new();
        socket.read_to_end(&mut came).unwrap();
        assert!(came == sent && began.elapsed() >= 2 * delay);
    }
}
