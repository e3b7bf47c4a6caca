//! Host of a target: the key by which attempts are limited.

use std::net::Ipv4Addr;
use std::sync::Arc;

use url::Url;

/// Host and port of a target URL.
pub type HostKey = Arc<str>;

/// Returns host and port of a URL. A default port counts as a named one.
pub(crate) fn host_of(target_url: &str) -> HostKey {
    let named = plain_host(target_url).or_else(|| {
        let url = Url::parse(target_url).ok()?;
        Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?))
    });
    named.unwrap_or_default().into()
}

/// Returns host and port if their form is one that the URL parser does not change. The transport
/// parses the URL anyway, and this saves the second time.
fn plain_host(target_url: &str) -> Option<String> {
    let (rest, default_port) = match target_url.strip_prefix("http://") {
        Some(rest) => (rest, 80),
        None => (target_url.strip_prefix("https://")?, 443),
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let authority = &rest[..end];
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => {
            (host, port.parse::<u16>().ok()?)
        }
        Some(_) => return None,
        None => (authority, default_port),
    };
    let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b);
    let last = host.rsplit('.').next().unwrap_or_default();
    let is_name = last.starts_with(|c: char| c.is_ascii_lowercase())
        && host.bytes().all(is_plain)
        && !host.contains("xn--");
    (is_name || host.parse::<Ipv4Addr>().is_ok()).then(|| format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_is_the_same_with_and_without_the_url_parser() {
        let urls = [
            "http://a.example/hook",
            "https://a.example",
            "https://a.example:8443?x",
            "http://127.0.0.1:8080/webhook/1",
            "http://a_b-c.example:80/",
        ];
        for url in urls {
            let parsed = Url::parse(url).expect("the URL is valid");
            let port = parsed.port_or_known_default().expect("the scheme has a port");
            let host = parsed.host_str().expect("the URL has a host");
            assert_eq!(plain_host(url), Some(format!("{host}:{port}")), "{url}");
        }
    }

    #[test]
    fn other_forms_of_a_host_are_left_to_the_url_parser() {
        let forms = ["http://A.example/", "http://0x7f.1/", "http://2130706433/", "http://[::1]/"];
        let forms = forms.into_iter().chain([
            "http:\\\\a.example/",
            "http://a@b.example/",
            "http://127.0.0.01/",
            "http://a.example:+80/",
            "http://a.example\\x/",
            "http://xn--tda.example/",
            "http://%61.example/",
        ]);
        for url in forms {
            assert_eq!(plain_host(url), None, "{url}");
        }
        assert_eq!(&*host_of("http://A.example/x"), "a.example:80");
        assert_eq!(&*host_of("http://0x7f.1:8080/"), "127.0.0.1:8080");
    }
}
