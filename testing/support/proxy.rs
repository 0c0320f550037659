//! A TCP proxy that breaks what passes through it, where it is told to.
//!
//! It listens on a port of 127.0.0.1 of its own and carries every connection to the target. A fault
//! happens once, at a byte of one direction, counted over all connections, or at the first byte
//! after a time; what waits for later faults passes as it is.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio::time::sleep;

const BUFFER_BYTES: usize = 16 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    ToServer,
    ToClient,
}

#[derive(Clone, Copy, Debug)]
pub enum Moment {
    /// When so many bytes have passed in the direction of the fault.
    Bytes(u64),
    /// With the first byte in that direction after so long.
    After(Duration),
}

#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// Both ends are told that the connection is broken (RST).
    Reset,
    /// Both ends are told that the other has finished (FIN).
    Close,
    /// The direction ends (FIN), the other one goes on.
    HalfClose,
    /// The next byte arrives with all bits inverted.
    Corrupt,
    /// What follows in this direction vanishes; the connection stays open.
    BlackHole,
    /// What follows waits.
    Delay(Duration),
    /// The direction carries so many bytes per second from now on.
    Throttle(u32),
    /// The connection is reset, and nobody listens for a while.
    Refuse(Duration),
}

/// A fault, and where it happens.
#[derive(Clone, Copy, Debug)]
pub struct Planned(pub Direction, pub Moment, pub Fault);

/// Listens until this goes; then every connection ends.
pub struct Proxy {
    address: SocketAddr,
    plan: Arc<Plan>,
    // Last: what runs in it ends with it.
    runtime: Option<Runtime>,
}

impl Proxy {
    pub fn start(target: &str, faults: &[Planned]) -> Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let local = (Ipv4Addr::LOCALHOST, 0);
        let listener = runtime.block_on(TcpListener::bind(local))?;
        let address = listener.local_addr()?;
        let (refuse, refusals) = mpsc::unbounded_channel();
        let plan = Arc::new(Plan {
            target: target.to_owned(),
            start: Instant::now(),
            refuse,
            state: Mutex::new(State {
                pending: faults.to_vec(),
                passed: [0; 2],
                rates: [None; 2],
                fired: 0,
            }),
        });
        runtime.spawn(listen(listener, address, Arc::clone(&plan), refusals));
        Ok(Self {
            address,
            plan,
            runtime: Some(runtime),
        })
    }

    /// `127.0.0.1:PORT`
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// How many faults have happened.
    pub fn fired(&self) -> usize {
        self.plan.state().fired
    }

    /// How many bytes have passed.
    pub fn passed(&self, direction: Direction) -> u64 {
        self.plan.state().passed[direction as usize]
    }

    /// Nothing is broken any more, but for connections that are already.
    pub fn heal(&self) {
        let mut state = self.plan.state();
        state.pending.clear();
        state.rates = [None; 2];
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

struct Plan {
    target: String,
    start: Instant,
    refuse: mpsc::UnboundedSender<Duration>,
    state: Mutex<State>,
}

struct State {
    pending: Vec<Planned>,
    /// Bytes in each direction.
    passed: [u64; 2],
    /// Bytes per second of each direction.
    rates: [Option<u32>; 2],
    fired: usize,
}

impl Plan {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of `length` bytes, how many pass before the next fault, and that fault. These count as
    /// passed, and the fault as happened.
    fn next(&self, direction: Direction, length: usize) -> (usize, Option<Fault>) {
        let mut state = self.state();
        let passed = state.passed[direction as usize];
        let elapsed = self.start.elapsed();
        let before = |planned: &Planned| {
            let Planned(of, moment, _) = *planned;
            let bytes = match moment {
                Moment::Bytes(at) => at.saturating_sub(passed),
                Moment::After(time) if elapsed >= time => 0,
                Moment::After(_) => u64::MAX,
            };
            (of == direction && bytes < length as u64).then_some(bytes)
        };
        let due = state.pending.iter().enumerate();
        let due = due.filter_map(|(index, planned)| Some((before(planned)?, index)));
        let Some((bytes, index)) = due.min() else {
            state.passed[direction as usize] += length as u64;
            return (length, None);
        };
        let Planned(_, _, fault) = state.pending.remove(index);
        state.passed[direction as usize] += bytes;
        state.fired += 1;
        if let Fault::Throttle(rate) = fault {
            state.rates[direction as usize] = Some(rate);
        }
        (bytes as usize, Some(fault))
    }

    /// How long so many bytes take.
    fn time_of(&self, direction: Direction, bytes: usize) -> Duration {
        match self.state().rates[direction as usize] {
            Some(rate) => Duration::from_secs_f64(bytes as f64 / f64::from(rate)),
            None => Duration::ZERO,
        }
    }
}

async fn listen(
    mut listener: TcpListener,
    address: SocketAddr,
    plan: Arc<Plan>,
    mut refusals: mpsc::UnboundedReceiver<Duration>,
) {
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((client, _)) = accepted {
                    tokio::spawn(carry(client, Arc::clone(&plan)));
                }
            }
            Some(time) = refusals.recv() => {
                // A port that nobody listens on is what refuses.
                drop(listener);
                sleep(time).await;
                listener = match TcpListener::bind(address).await {
                    Ok(listener) => listener,
                    Err(error) => return eprintln!("proxy: {address} is lost: {error}"),
                };
            }
        }
    }
}

/// Why a connection ends before its ends want it to.
enum Broken {
    Reset,
    Closed,
}

async fn carry(mut client: TcpStream, plan: Arc<Plan>) {
    let Ok(mut server) = TcpStream::connect(&plan.target).await else {
        let _ = client.set_zero_linger();
        return;
    };
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let ended = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        tokio::try_join!(
            pass(Direction::ToServer, from_client, to_server, &plan),
            pass(Direction::ToClient, from_server, to_client, &plan),
        )
    };
    if let Err(Broken::Reset) = ended {
        let _ = client.set_zero_linger();
        let _ = server.set_zero_linger();
    }
}

/// Carries one direction to its end.
async fn pass(
    direction: Direction,
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    plan: &Plan,
) -> Result<(), Broken> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let length = from.read(&mut buffer).await.map_err(|_| Broken::Reset)?;
        if length == 0 {
            break;
        }
        let mut rest = &mut buffer[..length];
        while !rest.is_empty() {
            let (bytes, fault) = plan.next(direction, rest.len());
            let (before, after) = rest.split_at_mut(bytes);
            to.write_all(before).await.map_err(|_| Broken::Reset)?;
            sleep(plan.time_of(direction, bytes)).await;
            match fault {
                None | Some(Fault::Throttle(_)) => {}
                Some(Fault::Delay(time)) => sleep(time).await,
                Some(Fault::Corrupt) => after[0] = !after[0],
                Some(Fault::Reset) => return Err(Broken::Reset),
                Some(Fault::Close) => return Err(Broken::Closed),
                Some(Fault::Refuse(time)) => {
                    let _ = plan.refuse.send(time);
                    return Err(Broken::Reset);
                }
                Some(Fault::HalfClose) => {
                    let _ = to.shutdown().await;
                    return Ok(());
                }
                Some(Fault::BlackHole) => return swallow(from).await,
            }
            rest = after;
        }
    }
    let _ = to.shutdown().await;
    Ok(())
}

/// Reads to the end and answers nothing: the other direction has nothing to carry then.
async fn swallow(mut from: ReadHalf<'_>) -> Result<(), Broken> {
    let mut buffer = vec![0; BUFFER_BYTES];
    while from.read(&mut buffer).await.is_ok_and(|length| length > 0) {}
    Err(Broken::Closed)
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::thread;

    use super::*;

    /// A server that sends back what it gets, through a proxy with these faults.
    fn echo(faults: &[Planned]) -> Result<(Proxy, TcpStream)> {
        let server = TcpListener::bind("127.0.0.1:0")?;
        let proxy = Proxy::start(&server.local_addr()?.to_string(), faults)?;
        thread::spawn(move || {
            for connection in server.incoming().flatten() {
                thread::spawn(move || {
                    let (mut from, mut to) = (&connection, &connection);
                    std::io::copy(&mut from, &mut to).ok();
                    connection.shutdown(Shutdown::Write).ok();
                });
            }
        });
        let client = TcpStream::connect(proxy.address())?;
        client.set_read_timeout(Some(Duration::from_secs(20)))?;
        Ok((proxy, client))
    }

    /// What comes back of ten bytes, and how it ended.
    fn ten_bytes(client: &mut TcpStream) -> (Vec<u8>, Option<ErrorKind>) {
        let mut found = Vec::new();
        let sent = client.write_all(b"0123456789");
        client.shutdown(Shutdown::Write).ok();
        let ended = sent.and_then(|()| client.read_to_end(&mut found));
        (found, ended.err().map(|error| error.kind()))
    }

    fn at(direction: Direction, bytes: u64, fault: Fault) -> [Planned; 1] {
        [Planned(direction, Moment::Bytes(bytes), fault)]
    }

    #[test]
    fn without_a_fault_everything_passes() -> Result<()> {
        let (proxy, mut client) = echo(&[])?;
        assert_eq!(ten_bytes(&mut client), (b"0123456789".to_vec(), None));
        assert_eq!((proxy.fired(), proxy.passed(Direction::ToServer)), (0, 10));
        Ok(())
    }

    #[test]
    fn a_fault_happens_at_its_byte_and_once() -> Result<()> {
        let (proxy, mut client) = echo(&at(Direction::ToServer, 4, Fault::Corrupt))?;
        assert_eq!(ten_bytes(&mut client), (b"0123\xcb56789".to_vec(), None));
        let mut again = TcpStream::connect(proxy.address())?;
        assert_eq!(ten_bytes(&mut again), (b"0123456789".to_vec(), None));
        assert_eq!(proxy.fired(), 1);
        Ok(())
    }

    #[test]
    fn a_reset_is_seen_as_one_and_a_close_as_the_end() -> Result<()> {
        let (_proxy, mut client) = echo(&at(Direction::ToClient, 4, Fault::Reset))?;
        assert_eq!(ten_bytes(&mut client).1, Some(ErrorKind::ConnectionReset));
        let (_proxy, mut client) = echo(&at(Direction::ToClient, 4, Fault::Close))?;
        assert_eq!(ten_bytes(&mut client), (b"0123".to_vec(), None));
        Ok(())
    }

    #[test]
    fn half_a_close_leaves_the_other_direction() -> Result<()> {
        let (_proxy, mut client) = echo(&at(Direction::ToServer, 4, Fault::HalfClose))?;
        assert_eq!(ten_bytes(&mut client), (b"0123".to_vec(), None));
        Ok(())
    }

    #[test]
    fn what_falls_into_a_black_hole_never_comes_back() -> Result<()> {
        let (_proxy, mut client) = echo(&at(Direction::ToServer, 4, Fault::BlackHole))?;
        client.set_read_timeout(Some(Duration::from_millis(200)))?;
        client.write_all(b"0123456789")?;
        let mut found = [0; 10];
        client.read_exact(&mut found[..4])?;
        let kind = client.read(&mut found).map_err(|error| error.kind());
        assert!(matches!(
            kind,
            Err(ErrorKind::WouldBlock | ErrorKind::TimedOut)
        ));
        Ok(())
    }

    #[test]
    fn delays_and_rates_take_their_time() -> Result<()> {
        let time = Duration::from_millis(100);
        let at = |fault| at(Direction::ToServer, 0, fault);
        for fault in [Fault::Delay(time), Fault::Throttle(100)] {
            let (_proxy, mut client) = echo(&at(fault))?;
            let start = Instant::now();
            assert_eq!(ten_bytes(&mut client), (b"0123456789".to_vec(), None));
            assert!(start.elapsed() >= time, "{fault:?}");
        }
        Ok(())
    }

    #[test]
    fn nobody_listens_for_as_long_as_was_said() -> Result<()> {
        let plan = [Planned(
            Direction::ToServer,
            Moment::After(Duration::ZERO),
            Fault::Refuse(Duration::from_millis(300)),
        )];
        let (proxy, mut client) = echo(&plan)?;
        assert!(ten_bytes(&mut client).1.is_some());
        let mut refused = false;
        loop {
            match TcpStream::connect(proxy.address()) {
                Err(error) => refused |= error.kind() == ErrorKind::ConnectionRefused,
                Ok(mut client) if refused => {
                    assert_eq!(ten_bytes(&mut client), (b"0123456789".to_vec(), None));
                    return Ok(());
                }
                // The listener has not gone yet.
                Ok(_) => {}
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}
