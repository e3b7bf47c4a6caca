//! The connections of the saboteur that takes stray bytes for the response to the next request.
//!
//! It takes the first response that it reads on a kept connection. An honest client closes a
//! connection with unread bytes.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

/// Maximum size of a body that is read, in bytes.
const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Maximum number of header lines that are read.
const LINES_MAX: usize = 100;

type Connection = BufReader<TcpStream>;

/// The connections of one worker that are not in use, by host and port.
#[derive(Clone, Debug, Default)]
pub(super) struct KeptConnections {
    unused: Arc<Mutex<BTreeMap<String, Vec<Connection>>>>,
}

impl KeptConnections {
    /// Sends a request to a host and returns the status of the first response.
    ///
    /// # Errors
    /// If the connection fails, or the response has no length.
    pub(super) async fn exchange(&self, host: &str, request: &[u8]) -> io::Result<u16> {
        let mut connection = match self.take(host) {
            Some(connection) => connection,
            None => BufReader::new(TcpStream::connect(host).await?),
        };
        connection.write_all(request).await?;
        let status = read_response(&mut connection).await?;
        let mut unused = self.unused.lock().unwrap_or_else(PoisonError::into_inner);
        let of_host = unused.entry(host.to_owned()).or_default();
        of_host.push(connection);
        Ok(status)
    }

    fn take(&self, host: &str) -> Option<Connection> {
        let mut unused = self.unused.lock().unwrap_or_else(PoisonError::into_inner);
        unused.get_mut(host)?.pop()
    }
}

async fn read_response(connection: &mut Connection) -> io::Result<u16> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let mut status = None;
    let mut length = None;
    for _ in 0..LINES_MAX {
        let mut line = String::new();
        if connection.read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if status.is_none() {
            let text = line.strip_prefix("HTTP/1.1 ").ok_or_else(invalid)?;
            status = text.get(..3).and_then(|digits| digits.parse().ok());
        } else if let Some(text) = line.strip_prefix("content-length: ") {
            length = text.parse::<usize>().ok();
        }
    }
    let status = status.ok_or_else(invalid)?;
    let length = match status {
        204 | 304 => 0,
        _ => length.ok_or_else(invalid)?,
    };
    let mut body = vec![0; length.min(BODY_BYTES_MAX)];
    connection.read_exact(&mut body).await?;
    Ok(status)
}
