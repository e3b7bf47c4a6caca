//! A name server of a test's own, and a dispatcher process that asks no other.
//!
//! The process gets a mount namespace of its own in which `/etc/resolv.conf` names that server. That takes root: elsewhere
//! the tests that need it say that they were skipped.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};

use chaos::binary::dispatcher_binary;
use chaos::system::ProcessSystem;
use tempfile::NamedTempFile;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// The longest question that is read.
const DATAGRAM_BYTES_MAX: usize = 512;

/// Where resolvers ask.
const PORT: u16 = 53;

/// Resolvers wait longer for a silent server than any test lets an attempt take: what ends the attempt is its own deadline.
const PATIENT: &str = "options timeout:30";

/// What is answered to the question for a name's addresses, the how-manieth that comes, from 0.
type Answers = dyn Fn(&str, usize) -> Option<Vec<Ipv4Addr>> + Send + Sync;

/// The server; dropping it stops it.
pub(crate) struct NameServer {
    configuration: NamedTempFile,
    serving: JoinHandle<()>,
}

impl NameServer {
    /// Answers with addresses, or not at all where there is `None`; or says why it cannot be had.
    pub(crate) async fn start(
        answers: impl Fn(&str, usize) -> Option<Vec<Ipv4Addr>> + Send + Sync + 'static,
    ) -> Option<Self> {
        match Self::try_start(Box::new(answers)).await {
            Ok(server) => Some(server),
            Err(error) => {
                let _ = writeln!(
                    std::io::stderr(),
                    "SKIPPED a name server of one's own: {error}"
                );
                None
            }
        }
    }

    async fn try_start(answers: Box<Answers>) -> std::io::Result<Self> {
        // Any address of the loopback that nobody else has taken.
        let [one, two, ..] = *uuid::Uuid::new_v4().as_bytes();
        let address = Ipv4Addr::new(127, 53, one, two.max(1));
        let socket = UdpSocket::bind(SocketAddr::new(address.into(), PORT)).await?;
        let namespace = std::process::Command::new("unshare")
            .args(["--mount", "true"])
            .status()?;
        if !namespace.success() {
            return Err(std::io::Error::other("no mount namespace is to be had"));
        }
        let mut configuration = NamedTempFile::new()?;
        writeln!(configuration, "nameserver {address}\n{PATIENT}")?;
        let serving = tokio::spawn(serve(socket, answers));
        Ok(Self {
            configuration,
            serving,
        })
    }

    /// A system whose dispatcher asks this server.
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

async fn serve(socket: UdpSocket, answers: Box<Answers>) {
    let mut buffer = [0; DATAGRAM_BYTES_MAX];
    let mut asked = 0;
    while let Ok((bytes, peer)) = socket.recv_from(&mut buffer).await {
        let question = &buffer[..bytes];
        let Some((name, end)) = name_of(question) else {
            continue;
        };
        // Type A; whoever asks for AAAA or anything else learns that there is none.
        let for_ipv4 = question.get(end..end + 2) == Some(&[0, 1]);
        let number = asked;
        asked += usize::from(for_ipv4);
        let Some(addresses) = answers(&name, number) else {
            continue;
        };
        let addresses = if for_ipv4 { addresses } else { Vec::new() };
        let _ = socket
            .send_to(&reply(&question[..end + 4], &addresses), peer)
            .await;
    }
}

/// The name in a question, and where it ends.
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

/// The question, repeated, and the addresses with a time to live of nothing.
fn reply(question: &[u8], addresses: &[Ipv4Addr]) -> Vec<u8> {
    let mut reply = question.to_vec();
    let count = u8::try_from(addresses.len()).expect("a handful");
    // A response, recursion available; one question, so many answers, nothing else.
    reply[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, count, 0, 0, 0, 0]);
    for address in addresses {
        reply.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        reply.extend_from_slice(&address.octets());
    }
    reply
}
