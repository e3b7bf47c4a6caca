//! The bytes of responses: heads and small JSON bodies.

/// Default status of a behavior.
pub(crate) fn status_default() -> u16 {
    200
}

/// Returns the body of a response to a webhook request.
fn body(status: u16) -> &'static str {
    match status {
        100..=199 | 204 | 304 => "",
        200..=299 => "{\"received\":true}\n",
        _ => "{\"received\":false}\n",
    }
}

/// Returns a head with these headers, including the empty line.
pub(crate) fn head(status: u16, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut head = Vec::with_capacity(160);
    head.extend_from_slice(format!("HTTP/1.1 {status} {}\r\n", reason_phrase(status)).as_bytes());
    for (name, value) in headers {
        for part in [name, ": ", value, "\r\n"] {
            head.extend_from_slice(part.as_bytes());
        }
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// Returns a complete response to a webhook request with these additional headers.
pub(crate) fn response(status: u16, headers: &[(&str, &str)]) -> Vec<u8> {
    response_with_body(status, headers, body(status).as_bytes())
}

/// Returns a complete response with this JSON body.
pub(crate) fn response_with_body(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let length = body.len().to_string();
    let mut all = headers.to_vec();
    // Responses with these statuses have no body, and a length would announce one.
    if !matches!(status, 100..=199 | 204 | 304) {
        all.push(("content-type", "application/json"));
        all.push(("content-length", &length));
    }
    let mut response = head(status, &all);
    response.extend_from_slice(body);
    response
}

fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        413 => "Content Too Large",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Unknown",
    }
}
