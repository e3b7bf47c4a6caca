//! Host of a target: the key by which attempts are limited.

use std::sync::Arc;

use url::Url;

/// Host and port of a target URL.
pub type HostKey = Arc<str>;

/// Returns host and port of a URL. A default port counts as a named one.
pub(crate) fn host_of(target_url: &str) -> HostKey {
    let named = Url::parse(target_url)
        .ok()
        .and_then(|url| Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?)));
    named.unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_a_host_have_the_same_key() {
        for url in ["http://a.example/hook", "http://A.example:80?x", "http://%61.example"] {
            assert_eq!(&*host_of(url), "a.example:80", "{url}");
        }
        assert_eq!(&*host_of("https://a_b-c.example"), "a_b-c.example:443");
        assert_eq!(&*host_of("http://0x7f.1:8080/"), "127.0.0.1:8080");
        assert_eq!(&*host_of("not a URL"), "");
    }
}
