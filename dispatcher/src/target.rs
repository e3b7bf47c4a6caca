//! Rules for targets: the accepted form of a URL and the refused ranges of addresses. Pure.
//!
//! The API checks a literal address when it accepts the event. The transport checks every address
//! before it connects, so that a name cannot change in between. Sources of the ranges: the IANA
//! special-purpose registries (RFC 6890 and its successors).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use url::Url;

/// Maximum length of a target, in bytes.
pub const TARGET_URL_BYTES_MAX: usize = 8_192;

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
    /// Has a host name with a character that neither DNS nor HTTP permits. URL parsers accept it.
    #[error("has {0:?} in its host name; use letters, digits, `-`, `.` and `_`")]
    HostName(char),
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

/// A target in the parts that a request needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Destination {
    pub(crate) is_https: bool,
    /// Name in ASCII form, or address without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Header `Host`: the port is left out if it is the default.
    pub(crate) authority: String,
    /// Path and query as given, if RFC 3986 permits their characters.
    pub(crate) path_and_query: String,
}

impl Destination {
    /// Parses a target and checks it, a literal address included.
    pub(crate) fn parse(text: &str, allowed: &AllowList) -> Result<Self, TargetError> {
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
        // The parser reads `http:host`, `http:/host` and `http:\\host` as `http://host`. A client
        // that writes them has made a mistake.
        let rest = text.get(url.scheme().len()..).and_then(|rest| rest.strip_prefix("://"));
        let rest = rest.ok_or(TargetError::Slashes)?;
        let (authority, rest) = split_authority(rest);
        // The parser drops an empty user name.
        if authority.contains('@') {
            return Err(TargetError::Credentials);
        }
        let port = url.port_or_known_default().unwrap_or_default();
        if port == 0 {
            return Err(TargetError::PortZero);
        }
        // The parser has already converted other forms of addresses, such as 2130706433 and 0x7f.1.
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let is_in_names = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if let Ok(address) = host.parse() {
            if let Some(range) = allowed.refusal(address) {
                return Err(TargetError::Refused(address, range));
            }
        } else if let Some(c) = host.chars().find(|c| !is_in_names(*c)) {
            return Err(TargetError::HostName(c));
        }
        Ok(Self {
            is_https: url.scheme() == "https",
            host: host.to_owned(),
            port,
            authority: url.authority().to_owned(),
            path_and_query: path_and_query(rest),
        })
    }

    /// Returns scheme, host and port.
    pub(crate) fn origin(&self) -> String {
        let scheme = if self.is_https { "https" } else { "http" };
        format!("{scheme}://{}", self.authority)
    }
}

/// Splits the text after the scheme like the URL parser, which skips further slashes.
fn split_authority(text: &str) -> (&str, &str) {
    let text = text.trim_start_matches(['/', '\\']);
    let end = text.find(['/', '\\', '?', '#']).unwrap_or(text.len());
    text.split_at(end)
}

/// Characters that the URL standard encodes in a query, except those that RFC 3986 permits.
const ENCODED_IN_QUERY: &AsciiSet = &CONTROLS.add(b'"').add(b'<').add(b'>');

/// The same for a path.
const ENCODED_IN_PATH: &AsciiSet = &ENCODED_IN_QUERY.add(b'`').add(b'{').add(b'}');

/// Returns path and query. Characters that RFC 3986 permits stay as they are: a receiver may have
/// signed them. Each other one is sent as the URL standard requires.
fn path_and_query(text: &str) -> String {
    let text = text.split('#').next().unwrap_or_default();
    let (path, query) = text.split_at(text.find('?').unwrap_or(text.len()));
    let path = path.replace('\\', "/");
    let slash = if path.is_empty() { "/" } else { "" };
    let path = utf8_percent_encode(&path, ENCODED_IN_PATH);
    format!("{slash}{path}{}", utf8_percent_encode(query, ENCODED_IN_QUERY))
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
            let range = entry.parse().or_else(|_| entry.parse::<IpAddr>().map(IpNet::from));
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
        REFUSED.iter().find(|(range, _)| range.contains(&address)).map(|(_, name)| *name)
    }
}

/// Refused ranges with their names. The first one that contains an address is reported, so narrow
/// ranges precede wide ones. No IPv4 range contains an IPv6 form of its addresses.
const REFUSED: &[(IpNet, &str)] = &[
    (v4([0, 0, 0, 0], 8), "this network (0.0.0.0/8)"),
    (v4([10, 0, 0, 0], 8), "private (10.0.0.0/8)"),
    (v4([100, 64, 0, 0], 10), "carrier-grade NAT (100.64.0.0/10)"),
    (v4([127, 0, 0, 0], 8), "loopback (127.0.0.0/8)"),
    (v4([169, 254, 0, 0], 16), "link-local, used for cloud metadata (169.254.0.0/16)"),
    (v4([168, 63, 129, 16], 32), "the wire server of Azure (168.63.129.16)"),
    (v4([172, 16, 0, 0], 12), "private (172.16.0.0/12)"),
    (v4([192, 0, 0, 0], 24), "for protocol assignments (192.0.0.0/24)"),
    (v4([192, 0, 2, 0], 24), "for documentation (192.0.2.0/24)"),
    (v4([192, 88, 99, 0], 24), "the former 6to4 relay (192.88.99.0/24)"),
    (v4([192, 168, 0, 0], 16), "private (192.168.0.0/16)"),
    (v4([198, 18, 0, 0], 15), "for benchmarks (198.18.0.0/15)"),
    (v4([198, 51, 100, 0], 24), "for documentation (198.51.100.0/24)"),
    (v4([203, 0, 113, 0], 24), "for documentation (203.0.113.0/24)"),
    (v4([224, 0, 0, 0], 4), "multicast (224.0.0.0/4)"),
    (v4([240, 0, 0, 0], 4), "reserved or broadcast (240.0.0.0/4)"),
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 128), "the unspecified address (::)"),
    (v6([0, 0, 0, 0, 0, 0, 0, 1], 128), "loopback (::1)"),
    (v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96), "an IPv4-mapped address (::ffff:0:0/96)"),
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 96), "an IPv4-compatible address (::/96)"),
    (v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96), "an address behind NAT64 (64:ff9b::/96)"),
    (v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48), "an address behind local NAT64 (64:ff9b:1::/48)"),
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32), "a Teredo address (2001::/32)"),
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23), "for protocol assignments (2001::/23)"),
    (v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), "for documentation (2001:db8::/32)"),
    (v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16), "a 6to4 address (2002::/16)"),
    (v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), "for documentation (3fff::/20)"),
    (v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7), "unique-local (fc00::/7)"),
    (v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), "link-local (fe80::/10)"),
    (v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10), "site-local (fec0::/10)"),
    (v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), "multicast (ff00::/8)"),
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 3), "outside global unicast (2000::/3)"),
    (v6([0x4000, 0, 0, 0, 0, 0, 0, 0], 2), "outside global unicast (2000::/3)"),
    (v6([0x8000, 0, 0, 0, 0, 0, 0, 0], 1), "outside global unicast (2000::/3)"),
];

const fn v4(octets: [u8; 4], prefix: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::from_octets(octets), prefix))
}

const fn v6(segments: [u16; 8], prefix: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::from_segments(segments), prefix))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn parse(text: &str) -> Result<Destination, TargetError> {
        Destination::parse(text, &AllowList::default())
    }

    #[test]
    fn permitted_characters_of_path_and_query_stay_as_given() {
        for given in [
            "/",
            "/?",
            "/a??x",
            "/a//b/../c/./d",
            "/%7Euser/%2e%2E%2Fx",
            "/a;v=1,2/b@c:d!$&'()*+~._-",
            "/it's?name=O'Brien&sig=a-b_c~d%2B%3D",
            "/a?x=%zz&y=%&&",
            "/?next=https://x.test/?y=1",
            "//b",
        ] {
            let sent = parse(&format!("https://example.com{given}")).unwrap();
            assert_eq!(sent.path_and_query, given);
        }
    }

    #[test]
    fn other_characters_follow_the_url_standard() {
        for (given, sent) in [
            ("", "/"),
            ("#part", "/"),
            ("?x", "/?x"),
            ("/a#b?c", "/a"),
            ("\\a\\b", "/a/b"),
            ("/a?b\\c", "/a?b\\c"),
            ("/é?é=☃'", "/%C3%A9?%C3%A9=%E2%98%83'"),
            ("/{id}`\"<>", "/%7Bid%7D%60%22%3C%3E"),
            ("/a?{id}\"<>", "/a?{id}%22%3C%3E"),
            ("/^|[]?^|[]`", "/^|[]?^|[]`"),
        ] {
            let found = parse(&format!("http://example.com{given}")).unwrap();
            assert_eq!(found.path_and_query, sent, "{given}");
        }
    }

    #[test]
    fn host_and_port_are_those_of_the_url_parser() {
        for (given, is_https, host, port, authority) in [
            ("http://EXAMPLE.com", false, "example.com", 80, "example.com"),
            ("HTTPS://a:443/x", true, "a", 443, "a"),
            (
                "https://b\u{fc}cher.test:81",
                true,
                "xn--bcher-kva.test",
                81,
                "xn--bcher-kva.test:81",
            ),
            ("http://[2606::1]:81/x", false, "2606::1", 81, "[2606::1]:81"),
            ("http:////my_service?a/b", false, "my_service", 80, "my_service"),
        ] {
            let found = parse(given).unwrap();
            assert_eq!(
                (found.is_https, &*found.host, found.port, &*found.authority),
                (is_https, host, port, authority),
            );
        }
    }

    #[test]
    fn target_that_cannot_be_sent_is_refused() {
        for c in "\"{}`!$&'()*+,;=~".chars() {
            let found = parse(&format!("http://a{c}b.com/"));
            assert_eq!(found, Err(TargetError::HostName(c)));
        }
        for given in ["http://@a.com/", "http://:@a.com", "http://a@b@c.com"] {
            assert_eq!(parse(given), Err(TargetError::Credentials));
        }
        assert!(parse("http://a.com/@b").is_ok());
    }
}
