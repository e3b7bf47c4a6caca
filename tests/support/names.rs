//! A DNS server for one test, and a dispatcher process that uses only this server.
//!
//! The process runs in its own mount namespace, where `/etc/resolv.conf` names the server. This
//! needs root. Without root, the tests print that they were skipped.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};

use chaos::binary::dispatcher_binary;
use chaos::system::ProcessSystem;
use tempfile::NamedTempFile;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// DNS over UDP without extensions has at most 512 bytes.
const DATAGRAM_BYTES_MAX: usize = 512;

/// Resolvers send to this port, and `/etc/resolv.conf` cannot name another.
const PORT: u16 = 53;

/// Longer than the deadline of an attempt in any test, so the deadline ends the attempt first.
const PATIENT: &str = "options timeout:30";

/// Returns the addresses of a name, or `None` for no response. The number counts the queries for
/// IPv4 addresses, from 0.
type Answers = dyn Fn(&str, usize) -> Option<Vec<Ipv4Addr>> + Send + Sync;

/// Runs until it is dropped.
pub(crate) struct NameServer {
    configuration: NamedTempFile,
    serving: JoinHandle<()>,
}

impl NameServer {
    /// Starts the server. Without root, prints the reason and returns `None`.
    pub(crate) async fn start(
        responses: impl Fn(&str, usize) -> Option<Vec<Ipv4Addr>> + Send + Sync + 'static,
    ) -> Option<Self> {
        match Self::try_start(Box::new(responses)).await {
            Ok(server) => Some(server),
            Err(error) => {
                let _ = writeln!(std::io::stderr(), "skipped: a DNS server for one test: {error}");
                None
            }
        }
    }

    async fn try_start(responses: Box<Answers>) -> std::io::Result<Self> {
        // A random loopback address, so that concurrent tests do not share one.
        let [one, two, ..] = *uuid::Uuid::new_v4().as_bytes();
        let address = Ipv4Addr::new(127, 53, one, two.max(1));
        let socket = UdpSocket::bind(SocketAddr::new(address.into(), PORT)).await?;
        let namespace = std::process::Command::new("unshare").args(["--mount", "true"]).status()?;
        if !namespace.success() {
            return Err(std::io::Error::other("cannot create a mount namespace"));
        }
        let mut configuration = NamedTempFile::new()?;
        writeln!(configuration, "nameserver {address}\n{PATIENT}")?;
        let serving = tokio::spawn(serve(socket, responses));
        Ok(Self { configuration, serving })
    }

    /// A system whose dispatcher processes resolve names by this server.
    pub(crate) fn system(&self) -> ProcessSystem {
        let binary = dispatcher_binary().expect("the binary can be built");
        let enter = "mount --bind \"$0\" /etc/resolv.conf && exec \"$1\"";
        let configuration = self.configuration.path().display().to_string();
        let binary = binary.display().to_string();
        let arguments = ["--mount", "sh", "-c", enter, &configuration, &binary];
        ProcessSystem::new("unshare").with_arguments(&arguments)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(socket: UdpSocket, responses: Box<Answers>) {
    let mut buffer = [0; DATAGRAM_BYTES_MAX];
    let mut asked = 0;
    while let Ok((bytes, peer)) = socket.recv_from(&mut buffer).await {
        let question = &buffer[..bytes];
        let Some((name, end)) = name_of(question) else {
            continue;
        };
        // Type A. A query of another type gets an empty response.
        let for_ipv4 = question.get(end..end + 2) == Some(&[0, 1]);
        let number = asked;
        asked += usize::from(for_ipv4);
        let Some(addresses) = responses(&name, number) else {
            continue;
        };
        let addresses = if for_ipv4 { addresses } else { Vec::new() };
        let _ = socket.send_to(&reply(&question[..end + 4], &addresses), peer).await;
    }
}

/// The name in a query, and the position behind it.
fn name_of(question: &[u8]) -> Option<(String, usize)> {
    let (mut at, mut labels) = (12, Vec::new());
    loop {
        let length = usize::from(*question.get(at)?);
        at += 1;
        if length == 0 {
            question.get(at..at + 4)?;
            return Some((labels.join("."), at));
        }
        labels.push(String::from_utf8_lossy(question.get(at..at + length)?).into_owned());
        at += length;
    }
}

/// Repeats the query and adds the addresses with a time to live of 0.
fn reply(question: &[u8], addresses: &[Ipv4Addr]) -> Vec<u8> {
    let mut reply = question.to_vec();
    let count = u8::try_from(addresses.len()).expect("a test uses few addresses");
    // Flags: response, recursion available. Then the counts of queries, addresses and other
    // records.
    reply[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, count, 0, 0, 0, 0]);
    for address in addresses {
        reply.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        reply.extend_from_slice(&address.octets());
    }
    reply
}
