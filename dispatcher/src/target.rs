//! Where a delivery may go: the grammar of a target and the ranges of addresses that are refused.
//!
//! Pure. Used at ingest for literal hosts, and by the transport on the very address that is dialled, so that no name can
//! change its mind in between. Sources of the ranges: the IANA special-purpose registries (RFC 6890 and its successors).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use url::{Host, Url};

/// The longest target that is taken.
pub const TARGET_URL_BYTES_MAX: usize = 8_192;

/// A target that passed validation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetUrl(String);

/// Why a target is no good.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Over [`TARGET_URL_BYTES_MAX`].
    #[error("is longer than {TARGET_URL_BYTES_MAX} bytes")]
    TooLong,
    /// White space or control characters, which URL parsers drop in silence.
    #[error("contains white space or control characters; percent-encode them")]
    Blank,
    /// Not a URL.
    #[error("is not an absolute URL ({0}); write one like https://example.com/hook")]
    NotUrl(url::ParseError),
    /// Not http or https.
    #[error("must begin with http:// or https://, not {0}:")]
    Scheme(String),
    /// Not two slashes behind the scheme.
    #[error("must begin with http:// or https://, both slashes included")]
    Slashes,
    /// User name or password in the URL.
    #[error("must not carry credentials; the signature is what authenticates a delivery")]
    Credentials,
    /// Port 0 cannot be connected to.
    #[error("names port 0, which cannot be connected to")]
    PortZero,
    /// A literal address in a refused range.
    #[error("points to {0}, which is {1}; ALLOWED_TARGET_CIDRS can permit it")]
    Refused(IpAddr, &'static str),
}

impl TargetUrl {
    /// Reads a target as a client or an operator wrote it.
    ///
    /// # Errors
    /// What is wrong with it, in words that complete "target_url …".
    pub fn parse(text: &str, allowed: &AllowList) -> Result<Self, TargetError> {
        parse_url(text, allowed)?;
        Ok(Self(text.to_owned()))
    }

    /// As it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Validates a target and gives the URL that is dialled.
///
/// # Errors
/// As [`TargetUrl::parse`].
pub fn parse_url(text: &str, allowed: &AllowList) -> Result<Url, TargetError> {
    if text.len() > TARGET_URL_BYTES_MAX {
        return Err(TargetError::TooLong);
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(TargetError::Blank);
    }
    let url = Url::parse(text).map_err(TargetError::NotUrl)?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(TargetError::Scheme(url.scheme().to_owned()));
    }
    // The parser reads `http:host`, `http:/host` and `http:\\host` as `http://host`; a client that writes so errs.
    let rest = text.get(url.scheme().len()..);
    if !rest.is_some_and(|rest| rest.starts_with("://")) {
        return Err(TargetError::Slashes);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(TargetError::Credentials);
    }
    if url.port() == Some(0) {
        return Err(TargetError::PortZero);
    }
    // The parser has already turned 2130706433, 0x7f.1 and their like into the address that they mean.
    let literal = match url.host() {
        Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
        Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
        Some(Host::Domain(_)) | None => None,
    };
    match literal.and_then(|address| allowed.refusal(address).map(|why| (address, why))) {
        Some((address, why)) => Err(TargetError::Refused(address, why)),
        None => Ok(url),
    }
}

/// `ALLOWED_TARGET_CIDRS`: ranges where targets may be although they are refused by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowList(Vec<IpNet>);

impl AllowList {
    /// Reads a comma-separated list of ranges; a bare address is a range of one.
    ///
    /// # Errors
    /// The entry that is no range.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let ranges = text.split(',').map(str::trim).map(|entry| {
            let range = entry
                .parse::<IpNet>()
                .or_else(|_| entry.parse::<IpAddr>().map(IpNet::from));
            range.map_err(|_| {
                format!("has {entry:?}, which is no range; write them like 10.0.0.0/8,::1/128")
            })
        });
        ranges.collect::<Result<_, _>>().map(Self)
    }

    /// Why nothing may be sent to this address; `None` if it may. A range opens the addresses that it names, and no other
    /// spelling of them: through a gateway, `64:ff9b::10.0.0.1` need not be our own 10.0.0.1.
    pub fn refusal(&self, address: IpAddr) -> Option<&'static str> {
        if self.0.iter().any(|range| range.contains(&address)) {
            return None;
        }
        match address {
            IpAddr::V4(address) => refused_ipv4(address),
            IpAddr::V6(address) => refused_ipv6(address),
        }
    }
}

impl fmt::Display for AllowList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ranges: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&ranges.join(","))
    }
}

const REFUSED_IPV4: &[([u8; 4], u8, &str)] = &[
    ([0, 0, 0, 0], 8, "this network (0.0.0.0/8)"),
    ([10, 0, 0, 0], 8, "private (10.0.0.0/8)"),
    ([100, 64, 0, 0], 10, "carrier-grade NAT (100.64.0.0/10)"),
    ([127, 0, 0, 0], 8, "loopback (127.0.0.0/8)"),
    (
        [169, 254, 0, 0],
        16,
        "link-local, where cloud metadata lives (169.254.0.0/16)",
    ),
    ([172, 16, 0, 0], 12, "private (172.16.0.0/12)"),
    (
        [192, 0, 0, 0],
        24,
        "for protocol assignments (192.0.0.0/24)",
    ),
    ([192, 0, 2, 0], 24, "for documentation (192.0.2.0/24)"),
    (
        [192, 88, 99, 0],
        24,
        "the former 6to4 relay (192.88.99.0/24)",
    ),
    ([192, 168, 0, 0], 16, "private (192.168.0.0/16)"),
    ([198, 18, 0, 0], 15, "for benchmarks (198.18.0.0/15)"),
    ([198, 51, 100, 0], 24, "for documentation (198.51.100.0/24)"),
    ([203, 0, 113, 0], 24, "for documentation (203.0.113.0/24)"),
    ([224, 0, 0, 0], 4, "multicast (224.0.0.0/4)"),
    ([240, 0, 0, 0], 4, "reserved or broadcast (240.0.0.0/4)"),
];

/// Looked through in order: the first range that holds the address gives the reason.
const REFUSED_IPV6: &[([u16; 8], u8, &str)] = &[
    (
        [0, 0, 0, 0, 0, 0, 0, 0],
        128,
        "the unspecified address (::)",
    ),
    ([0, 0, 0, 0, 0, 0, 0, 1], 128, "loopback (::1)"),
    (
        [0, 0, 0, 0, 0, 0xffff, 0, 0],
        96,
        "an IPv4-mapped address (::ffff:0:0/96)",
    ),
    (
        [0, 0, 0, 0, 0, 0, 0, 0],
        96,
        "an IPv4-compatible address (::/96)",
    ),
    (
        [0x64, 0xff9b, 0, 0, 0, 0, 0, 0],
        96,
        "an address behind NAT64 (64:ff9b::/96)",
    ),
    (
        [0x64, 0xff9b, 1, 0, 0, 0, 0, 0],
        48,
        "an address behind local NAT64 (64:ff9b:1::/48)",
    ),
    (
        [0x2001, 0, 0, 0, 0, 0, 0, 0],
        32,
        "a Teredo address (2001::/32)",
    ),
    (
        [0x2001, 0, 0, 0, 0, 0, 0, 0],
        23,
        "for protocol assignments (2001::/23)",
    ),
    (
        [0x2001, 0xdb8, 0, 0, 0, 0, 0, 0],
        32,
        "for documentation (2001:db8::/32)",
    ),
    (
        [0x2002, 0, 0, 0, 0, 0, 0, 0],
        16,
        "a 6to4 address (2002::/16)",
    ),
    (
        [0x3fff, 0, 0, 0, 0, 0, 0, 0],
        20,
        "for documentation (3fff::/20)",
    ),
    ([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7, "unique-local (fc00::/7)"),
    ([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10, "link-local (fe80::/10)"),
    ([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10, "site-local (fec0::/10)"),
    ([0xff00, 0, 0, 0, 0, 0, 0, 0], 8, "multicast (ff00::/8)"),
];

/// Where global unicast addresses are assigned from; everything outside is special.
const GLOBAL_IPV6: ([u16; 8], u8) = ([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);

fn refused_ipv4(address: Ipv4Addr) -> Option<&'static str> {
    let holds = |octets: [u8; 4], bits| Ipv4Net::new_assert(octets.into(), bits).contains(&address);
    REFUSED_IPV4
        .iter()
        .find(|(octets, bits, _)| holds(*octets, *bits))
        .map(|(_, _, why)| *why)
}

fn refused_ipv6(address: Ipv6Addr) -> Option<&'static str> {
    let holds =
        |segments: [u16; 8], bits| Ipv6Net::new_assert(segments.into(), bits).contains(&address);
    let named = REFUSED_IPV6
        .iter()
        .find(|(segments, bits, _)| holds(*segments, *bits));
    match named {
        Some((_, _, why)) => Some(why),
        None if holds(GLOBAL_IPV6.0, GLOBAL_IPV6.1) => None,
        None => Some("outside global unicast (2000::/3)"),
    }
}
