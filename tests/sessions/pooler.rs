//! A pooler that drops the startup options, and databases with another encoding.

use std::io;
use std::net::SocketAddr;

use chaos::links::server_of;
use reqwest::Url;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use super::{database_name, run};
use crate::support::db;
use crate::support::process::command;

/// Reads the startup packet of a client and returns it without the parameter `options`.
async fn startup_without_options(client: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = client.read_u32().await?;
    let mut packet = vec![0; usize::try_from(length).expect("a u32 fits") - 4];
    client.read_exact(&mut packet).await?;
    let (version, parameters) = packet.split_at(4);
    let texts: Vec<&[u8]> = parameters.split(|byte| *byte == 0).collect();
    let mut kept = version.to_vec();
    for pair in texts.chunks(2).filter(|pair| !pair[0].is_empty()) {
        if pair[0] != b"options" {
            kept.extend([pair[0], b"\0", pair[1], b"\0"].concat());
        }
    }
    kept.push(0);
    let length = u32::try_from(kept.len() + 4).expect("the packet is short");
    Ok([&length.to_be_bytes()[..], &kept].concat())
}

async fn forward(mut client: TcpStream, server: SocketAddr) -> io::Result<()> {
    let startup = startup_without_options(&mut client).await?;
    let mut server = TcpStream::connect(server).await?;
    server.write_all(&startup).await?;
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

/// Starts a pooler with `ignore_startup_parameters = options` in front of a database, and returns
/// the URL that leads through it.
async fn pooler(database: &str) -> String {
    let server = server_of(database).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(forward(client, server));
        }
    });
    let mut url = Url::parse(database).unwrap();
    url.set_host(Some("127.0.0.1")).unwrap();
    url.set_port(Some(port)).unwrap();
    // The request for TLS would come before the startup packet.
    url.set_query(Some("sslmode=disable"));
    url.to_string()
}

#[tokio::test]
async fn options_that_a_pooler_drops_are_refused_by_name() {
    let database = db::database().await;
    let pool = db::pool(&database).await;
    let name = database_name(&pool).await;
    run(&pool, format!("alter database {name} set synchronous_commit = off")).await;
    let url = pooler(&database).await;
    for arguments in [&["check"][..], &["migrate"], &[]] {
        let output = command(arguments, &[("DATABASE_URL", &url), ("BIND", "127.0.0.1:0")]).await;
        let error = &output.text;
        assert_eq!(output.code, Some(1), "{arguments:?}: {error}");
        assert!(error.contains(r#"synchronous_commit is "off""#), "{error}");
        assert!(error.contains("lock_timeout") && error.contains("pooler"), "{error}");
    }
}

// Payloads are bytes of UTF-8 JSON. Another encoding would refuse or change texts beside them.
#[tokio::test]
async fn encoding_other_than_utf8_is_refused() {
    let existing = db::database().await;
    let pool = db::pool(&existing).await;
    for encoding in ["SQL_ASCII", "LATIN1"] {
        let name = format!("encoding_{}", uuid::Uuid::new_v4().simple());
        let create =
            format!("create database {name} template template0 encoding '{encoding}' locale 'C'");
        run(&pool, create).await;
        let (base, _) = existing.rsplit_once('/').unwrap();
        let url = format!("{base}/{name}");
        for arguments in [&["check"][..], &[]] {
            let settings = [("DATABASE_URL", &*url), ("BIND", "127.0.0.1:0")];
            let output = command(arguments, &settings).await;
            assert_eq!(output.code, Some(1), "{arguments:?}: {}", output.text);
            let expected = format!("encoding {encoding} and not UTF8");
            assert!(output.text.contains(&expected), "{}", output.text);
        }
        run(&pool, format!("drop database {name}")).await;
    }
}
