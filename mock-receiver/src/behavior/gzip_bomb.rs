//! A complete response with a gzip body that decompresses to 64 MiB. A sender that does not
//! decompress it reads 64 KiB.

use std::io::Write as _;
use std::sync::LazyLock;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::played::Played;
use crate::peer::{Gone, Peer};
use crate::wire;

const UNPACKED_BYTES: usize = 64 * 1024 * 1024;
const PIECE_BYTES: usize = 64 * 1024;

static PACKED: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    for _ in 0..UNPACKED_BYTES / PIECE_BYTES {
        encoder.write_all(&[0; PIECE_BYTES]).expect("writing to memory cannot fail");
    }
    encoder.finish().expect("writing to memory cannot fail")
});

pub(super) async fn play(peer: &mut Peer, status: u16) -> Result<Played, Gone> {
    let length = PACKED.len().to_string();
    let headers = [("content-encoding", "gzip"), ("content-length", length.as_str())];
    peer.send(&wire::head(status, &headers)).await?;
    peer.send(&PACKED).await?;
    Ok(Played::answered(status))
}
