//! Rules for targets: the accepted form of a URL and the refused ranges of addresses. Pure.
//!
//! The API checks a literal address when it accepts the event. The transport checks every address
//! before it connects, so that a name cannot change in between. Sources of the ranges: the IANA
//! special-purpose registries (RFC 6890 and its successors).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use url::{Host, Url};

/// Maximum length of a target, in bytes.
pub const TARGET_URL_BYTES_MAX: usize = 8_192;

/// A valid URL whose host is not a refused literal address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetUrl(String);

/// Reason why a target is refused. `Display` completes the sentence "target_url …".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Longer than [`TARGET_URL_BYTES_MAX`].
    #[error("is longer than {TARGET_URL_BYTES_MAX} bytes; use a shorter URL")]
    TooLong,
    /// Contains white space or control characters. URL parsers drop them without an error.
    #[error("contains white space or control characters; percent-encode them")]
    Blank,
    /// Is not an absolute URL.
    #[error("is not an absolute URL ({0}); use one like https://example.com/hook")]
    NotUrl(url::ParseError),
    /// Has another scheme than http or https.
    #[error("must begin with http:// or https://, not {0}:")]
    Scheme(String),
    /// Does not have two slashes after the scheme.
    #[error("must begin with http:// or https://, with both slashes")]
    Slashes,
    /// Contains a user name or a password.
    #[error("must not contain credentials; the signature authenticates a delivery")]
    Credentials,
    /// Has port 0, which is not valid in TCP.
    #[error("has port 0, to which no connection is possible; use another port")]
    PortZero,
    /// Has a literal address in a refused range, which the second field names.
    #[error("points to {0}, which is {1}; ALLOWED_TARGET_CIDRS can permit it")]
    Refused(IpAddr, &'static str),
}

impl TargetUrl {
    /// Validates a target. The text is kept unchanged.
    ///
    /// # Errors
    /// See [`TargetError`].
    pub fn parse(text: &str, allowed: &AllowList) -> Result<Self, TargetError> {
        parse_url(text, allowed)?;
        Ok(Self(text.to_owned()))
    }

    /// Returns the target as the client or the operator wrote it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Validates a target and returns its URL.
pub(crate) fn parse_url(text: &str, allowed: &AllowList) -> Result<Url, TargetError> {
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
    // The parser reads `http:host`, `http:/host` and `http:\\host` as `http://host`. A client that
    // writes them has made a mistake.
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
    // The parser has already converted other forms of addresses, such as 2130706433 and 0x7f.1.
    let literal = match url.host() {
        Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
        Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
        Some(Host::Domain(_)) | None => None,
    };
    match literal.and_then(|address| allowed.refusal(address).map(|range| (address, range))) {
        Some((address, range)) => Err(TargetError::Refused(address, range)),
        None => Ok(url),
    }
}

/// `ALLOWED_TARGET_CIDRS`: ranges in which targets are allowed although a rule refuses them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowList(Vec<IpNet>);

/// The entry of `ALLOWED_TARGET_CIDRS` that is not a range. `Display` completes the sentence
/// "ALLOWED_TARGET_CIDRS …".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("contains {0:?}, which is not an address range: set ranges like 10.0.0.0/8,::1/128")]
pub struct RangeError(String);

impl AllowList {
    /// Parses ranges separated by commas. An address without a prefix length is a range of one.
    ///
    /// # Errors
    /// The first entry that is not a range.
    pub fn parse(text: &str) -> Result<Self, RangeError> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let ranges = text.split(',').map(str::trim).map(|entry| {
            let range = entry
                .parse::<IpNet>()
                .or_else(|_| entry.parse::<IpAddr>().map(IpNet::from));
            range.map_err(|_| RangeError(entry.to_owned()))
        });
        ranges.collect::<Result<_, _>>().map(Self)
    }

    /// Returns the refused range of an address, or `None` if requests to it are allowed. An allowed
    /// IPv4 range does not allow IPv6 forms of its addresses: behind a gateway, `64:ff9b::10.0.0.1`
    /// may be another host than 10.0.0.1.
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
        "link-local, used for cloud metadata (169.254.0.0/16)",
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

/// The first range that contains the address is reported, so narrow ranges precede wide ones.
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

/// Range of global unicast addresses. All addresses outside it are refused.
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
