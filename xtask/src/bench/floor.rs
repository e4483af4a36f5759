//! The least that fetching, and sending, can take.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::measure::measure_own;

/// Floor A: fetches every address of `list`, `concurrency` at once, and throws the bytes away; the same HTTP library, TLS
/// and gzip as the program's, one thread. The list begins with the address of the token, the client's id and its secret.
pub(super) fn fetch(list: &Path, concurrency: usize) -> Result<(), String> {
    let text = fs::read_to_string(list).map_err(|error| error.to_string())?;
    let mut lines = text.lines().map(str::to_owned);
    let (Some(sign_in), Some(id), Some(secret)) = (lines.next(), lines.next(), lines.next()) else {
        return Err("no credential in the list".to_owned());
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let client = reqwest::Client::builder()
            .gzip(true)
            .no_proxy()
            .build()
            .map_err(|error| error.to_string())?;
        let token = token(&client, &sign_in, &id, &secret)
            .await
            .map_err(|error| error.to_string())?;
        let places = Arc::new(Semaphore::new(concurrency.max(1)));
        let mut all = JoinSet::new();
        for address in lines {
            let place = Arc::clone(&places).acquire_owned().await;
            let (client, token) = (client.clone(), Arc::clone(&token));
            all.spawn(async move {
                let _place = place;
                let answer = client.get(address).bearer_auth(&*token).send().await?;
                let mut answer = answer.error_for_status()?;
                while answer.chunk().await?.is_some() {}
                Ok::<_, reqwest::Error>(())
            });
            while let Some(done) = all.try_join_next() {
                finished(done)?;
            }
        }
        while let Some(done) = all.join_next().await {
            finished(done)?;
        }
        Ok(())
    })
}

async fn token(
    client: &reqwest::Client,
    address: &str,
    id: &str,
    secret: &str,
) -> Result<Arc<str>, reqwest::Error> {
    #[derive(serde::Deserialize)]
    struct Answer {
        access_token: String,
    }
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", id),
        ("client_secret", secret),
        ("scope", "https://manage.office.com/.default"),
    ];
    let answer = client.post(address).form(&form).send().await?;
    Ok(answer.json::<Answer>().await?.access_token.into())
}

fn finished(
    done: Result<Result<(), reqwest::Error>, tokio::task::JoinError>,
) -> Result<(), String> {
    done.map_err(|error| error.to_string())?
        .map_err(|error| error.to_string())
}

/// Floor B: sends the lines of `events`, as the program printed them, as datagrams; what is measured begins when all of
/// them stand in memory.
pub(super) fn send(socket: &Path, events: &Path) -> Result<(), String> {
    let text = fs::read(events).map_err(|error| error.to_string())?;
    let lines = text.split_inclusive(|byte| *byte == b'\n');
    let datagrams: Vec<Vec<u8>> = lines
        .map(|line| [b"1:office365:", line.trim_ascii_end()].concat())
        .collect();
    drop(text);
    measure_own(|| {
        let sender = UnixDatagram::unbound().map_err(|error| error.to_string())?;
        sender.connect(socket).map_err(|error| error.to_string())?;
        for datagram in &datagrams {
            sender.send(datagram).map_err(|error| error.to_string())?;
        }
        Ok(())
    })
}
