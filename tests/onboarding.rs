//! From a customer's text to a tenant that signs in, and the block in `ossec.conf`: the real binary
//! against a small Entra ID and Activity API of this file's own.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

const TENANT: &str = "8a3c1b6e-1111-4000-8000-0123456789ab";
const CLIENT: &str = "0f0e0d0c-2222-4000-9000-ba9876543210";
const SECRET: &str = "abC8Q~d.E_f-GhIjKlMnOpQrStUvWxYz01234567";
const NEW_SECRET: &str = "xyZ8Q~n.E_w-GhIjKlMnOpQrStUvWxYz01234567";

/// A configuration, and a Wazuh home, in a folder of their own.
struct Place(tempfile::TempDir);

/// What the program did.
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        place.write(
            "config.toml",
            "[wazuh]\nhome = \"ossec\"\n[log]\nfile = \"\"\n",
        );
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        path
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn mode(&self, name: &str) -> u32 {
        fs::metadata(self.path(name)).unwrap().mode() & 0o7777
    }

    /// Every file below the folder, sorted.
    fn files(&self) -> Vec<String> {
        fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, files);
                } else {
                    files.push(path);
                }
            }
        }
        let mut files = Vec::new();
        walk(self.0.path(), &mut files);
        let mut names: Vec<_> = files
            .iter()
            .map(|file| {
                file.strip_prefix(self.0.path())
                    .unwrap()
                    .display()
                    .to_string()
            })
            .collect();
        names.sort();
        names
    }

    /// Runs the program; texts name this folder as DIR. No secret is ever said.
    fn run(&self, arguments: &[&str]) -> Said {
        self.run_with(arguments, "")
    }

    fn run_with(&self, arguments: &[&str], stdin: &str) -> Said {
        // the way to the real Microsoft ends at a port that nobody listens on
        self.run_through("http://127.0.0.1:9", arguments, stdin)
    }

    fn run_through(&self, proxy: &str, arguments: &[&str], stdin: &str) -> Said {
        let mut child = Command::new(env!("CARGO_BIN_EXE_o365-wodle"))
            .arg("--config")
            .arg(self.path("config.toml"))
            .args(arguments)
            .current_dir(self.0.path())
            .env("HTTPS_PROXY", proxy)
            .env("SSL_CERT_FILE", self.path("ca.pem"))
            .env_remove("NO_PROXY")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(stdin.as_bytes())
            .unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| {
            let text = String::from_utf8(bytes).unwrap();
            assert!(
                !text.contains(SECRET) && !text.contains(NEW_SECRET),
                "{text}"
            );
            text.replace(self.0.path().to_str().unwrap(), "DIR")
        };
        Said {
            code: output.status.code().unwrap(),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }

    /// A stored tenant that signs in at this server.
    fn with_tenant(server: &Server) -> Self {
        let place = Self::new();
        let said = place.run_with(
            &["tenant", "add", "contoso", "--from", "-", "--no-test"],
            &hand_over(TENANT),
        );
        assert_eq!(said.code, 0, "{}", said.err);
        let stored = place.read("tenants.d/contoso.toml");
        let url = &server.url;
        place.write(
            "tenants.d/contoso.toml",
            format!("{stored}login_url = \"{url}\"\nmanagement_url = \"{url}\"\n"),
        );
        place
    }
}

fn hand_over(tenant: &str) -> String {
    format!("Tenant ID: {tenant}\r\nClient ID: {CLIENT}\r\nClient secret (value): {SECRET}\r\n")
}

/// Gives tokens with these roles for one secret, and an empty list of subscriptions.
struct Server {
    url: String,
    /// Path and body of each request.
    seen: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(secret: &'static str, roles: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (log, aud) = (Arc::clone(&seen), url.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                answer(&mut stream.unwrap(), secret, roles, &aud, &log);
            }
        });
        Self { url, seen }
    }

    /// The same for who believes to speak with Microsoft's commercial cloud: a proxy that answers
    /// itself, under the certificate that it writes.
    fn start_as_microsoft(certificate: &Path, secret: &'static str, roles: &'static str) -> Self {
        const HOSTS: [&str; 2] = ["login.microsoftonline.com", "manage.office.com"];
        let own = rcgen::generate_simple_self_signed(HOSTS.map(str::to_owned)).unwrap();
        fs::write(certificate, own.cert.pem()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(own.signing_key.serialize_der());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key.into())
            .unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let (head, _) = request(&mut stream);
                assert!(
                    HOSTS
                        .iter()
                        .any(|host| head.starts_with(&format!("connect {host}:443 ")))
                );
                stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").unwrap();
                let tls = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut stream = rustls::StreamOwned::new(tls, stream);
                answer(
                    &mut stream,
                    secret,
                    roles,
                    "https://manage.office.com",
                    &log,
                );
                stream.conn.send_close_notify();
                stream.flush().unwrap();
            }
        });
        Self { url, seen }
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

/// The head of a request in lower case, and its body.
fn request(stream: &mut impl Read) -> (String, String) {
    let mut bytes = Vec::new();
    loop {
        let mut some = [0; 4096];
        let count = stream.read(&mut some).unwrap();
        bytes.extend_from_slice(&some[..count]);
        let text = String::from_utf8(bytes.clone()).unwrap();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_ascii_lowercase();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return (head, body.to_owned());
            }
        }
        assert_ne!(count, 0, "a request without end");
    }
}

fn answer(
    stream: &mut (impl Read + Write),
    secret: &str,
    roles: &str,
    aud: &str,
    log: &Mutex<Vec<String>>,
) {
    let (head, body) = request(stream);
    let path = head.split([' ', '?']).nth(1).unwrap().to_owned();
    let is_sign_in = path.ends_with("/oauth2/v2.0/token");
    let is_known = body.contains(&format!("client_secret={}", secret.replace('~', "%7E")));
    log.lock().unwrap().push(path);
    let (status, answer) = match (is_sign_in, is_known) {
        (true, true) => {
            let claims = format!(r#"{{"aud":"{aud}","tid":"{TENANT}","appid":"{CLIENT}","roles":[{roles}]}}"#);
            let token = format!("{}.{}.c2ln", base64(r#"{"alg":"RS256","typ":"JWT"}"#), base64(&claims));
            (200, format!(r#"{{"token_type":"Bearer","expires_in":3599,"access_token":"{token}"}}"#))
        }
        (true, false) => (
            401,
            r#"{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret provided.","error_codes":[7000215],"trace_id":"t-1"}"#.to_owned(),
        ),
        _ => (200, r#"[{"contentType":"Audit.Exchange","status":"enabled"}]"#.to_owned()),
    };
    let length = answer.len();
    write!(
        stream,
        "HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{answer}"
    )
    .unwrap();
}

/// For URLs, without padding.
fn base64(text: &str) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    text.as_bytes()
        .chunks(3)
        .flat_map(|three| {
            let bits = (0..3).fold(0_u32, |bits, at| {
                bits << 8 | u32::from(*three.get(at).unwrap_or(&0))
            });
            (0..=three.len())
                .map(move |at| char::from(LETTERS[(bits >> (18 - 6 * at) & 63) as usize]))
        })
        .collect()
}

const BOTH: &str = r#""ActivityFeed.Read","ActivityFeed.ReadDlp""#;

#[test]
fn add_stores_a_tenant_and_leaves_the_text_alone() {
    let place = Place::new();
    let text = hand_over(&TENANT.to_uppercase());
    place.write("mail.txt", &text);
    let said = place.run(&[
        "tenant",
        "add",
        "contoso",
        "--from",
        "mail.txt",
        "--no-test",
        "--cloud",
        "gcc",
    ]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert_eq!(
        said.out,
        "contoso: stored in DIR/tenants.d/contoso.toml, its secret in DIR/secrets/contoso (mode 0600)\n\
         mail.txt was not changed and still holds the secret: it can be deleted now\n"
    );
    assert_eq!(place.read("mail.txt"), text);
    assert_eq!(place.read("secrets/contoso"), SECRET);
    assert_eq!(
        place.read("tenants.d/contoso.toml"),
        format!(
            "# Every key of a [[tenant]] may stand here.\ntenant_id = \"{TENANT}\"\n\
             client_id = \"{CLIENT}\"\nclient_secret_file = \"secrets/contoso\"\ncloud = \"gcc\"\n"
        )
    );
    for (name, mode) in [
        ("secrets", 0o750),
        ("secrets/contoso", 0o600),
        ("tenants.d", 0o750),
        ("tenants.d/contoso.toml", 0o640),
    ] {
        assert_eq!(place.mode(name), mode, "{name}");
    }
    let said = place.run(&["check"]);
    assert_eq!(
        (said.code, said.out.as_str()),
        (0, "DIR/config.toml: no problem found, 1 tenant\n")
    );
    let said = place.run(&["tenant", "list", "--json"]);
    let listed: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(listed["tenants"][0]["name"], "contoso");
    assert_eq!(listed["tenants"][0]["cloud"], "gcc");
    assert_eq!(listed["tenants"][0]["signs_in_with"], "client_secret_file");
    assert!(place.run(&["tenant", "list"]).out.contains(TENANT));
}

#[test]
fn add_stores_nothing_of_a_text_that_is_wrong() {
    let place = Place::new();
    let before = place.files();
    let add = ["tenant", "add", "contoso", "--from", "-", "--no-test"];
    for (text, wrong) in [
        (String::new(), "-: the tenant ID is missing"),
        (
            format!("tenant id: {TENANT}\nclient id: {CLIENT}\nsecret: {TENANT}\n"),
            "-: the client secret is a GUID: the secret's ID was pasted in place of its value",
        ),
        (
            format!(
                "tenant id: {TENANT}\ntenant id: {TENANT}\nclient id: {CLIENT}\nsecret: {SECRET}\n"
            ),
            "-: the tenant ID is there 2 times",
        ),
    ] {
        let said = place.run_with(&add, &text);
        assert_eq!(said.code, 78, "{text}");
        assert!(said.err.contains(wrong), "{}", said.err);
        assert_eq!((place.files(), said.out.as_str()), (before.clone(), ""));
    }
    let said = place.run(&["tenant", "add", "contoso", "--from", "nowhere.txt"]);
    assert_eq!(said.code, 2);
    let said = place.run(&["tenant", "add", "../contoso", "--from", "-"]);
    assert_eq!(said.code, 2);
    assert_eq!(place.files(), before);
}

#[test]
fn add_refuses_what_is_there_and_takes_back_what_cannot_stay() {
    let place = Place::new();
    let add = |name: &str, tenant: &str| {
        place.run_with(
            &["tenant", "add", name, "--from", "-", "--no-test"],
            &hand_over(tenant),
        )
    };
    let other = "ffffffff-1111-4000-8000-0123456789ab";
    assert_eq!(add("contoso", TENANT).code, 0);
    let stored = place.files();
    for (name, tenant, wrong) in [
        ("contoso", other, "contoso: there is a tenant of that name"),
        (
            "fabrikam",
            TENANT,
            "fabrikam: tenant contoso has the same tenant ID",
        ),
    ] {
        let said = add(name, tenant);
        assert_eq!(said.code, 78);
        assert!(said.err.contains(wrong), "{}", said.err);
        assert_eq!(place.files(), stored);
    }
    // a folder that others may write is found after the files are there
    fs::set_permissions(place.path("secrets"), fs::Permissions::from_mode(0o770)).unwrap();
    let said = add("fabrikam", other);
    assert_eq!(said.code, 78);
    assert!(
        said.err.contains("DIR/secrets is writable by others"),
        "{}",
        said.err
    );
    assert_eq!(place.files(), stored);
    // and a secret that the operator put there is not overwritten
    fs::set_permissions(place.path("secrets"), fs::Permissions::from_mode(0o750)).unwrap();
    place.write("secrets/fabrikam", "by hand");
    let said = add("fabrikam", other);
    assert_eq!(said.code, 78);
    assert!(
        said.err.contains("DIR/secrets/fabrikam is there already"),
        "{}",
        said.err
    );
    assert_eq!(place.read("secrets/fabrikam"), "by hand");
}

#[test]
fn of_many_adds_at_once_one_wins() {
    let place = Place::new();
    let add = ["tenant", "add", "contoso", "--from", "-", "--no-test"];
    let mut codes: Vec<_> = thread::scope(|scope| {
        let adds: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| place.run_with(&add, &hand_over(TENANT)).code))
            .collect();
        adds.into_iter().map(|add| add.join().unwrap()).collect()
    });
    codes.sort_unstable();
    assert_eq!(codes, [0, 78, 78, 78, 78, 78, 78, 78]);
    assert_eq!(place.run(&["check"]).code, 0);
}

#[test]
fn add_tests_the_sign_in_the_permissions_and_the_api() {
    let place = Place::new();
    let only_read = r#""ActivityFeed.Read""#;
    let server = Server::start_as_microsoft(&place.path("ca.pem"), SECRET, only_read);
    let add = ["tenant", "add", "contoso", "--from", "-"];
    let said = place.run_through(&server.url, &add, &hand_over(TENANT));
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{}", said.out);
    let lines: Vec<_> = said.out.lines().skip(1).collect();
    assert_eq!(lines.len(), 4, "{}", said.out);
    for (line, begin) in lines.iter().zip([
        "contoso: ok     signed in as the application 0f0e0d0c-",
        "contoso: note   the application lacks the permission ActivityFeed.ReadDlp, so DLP.All is left out",
        "contoso: ok     permissions: ActivityFeed.Read",
        "contoso: ok     the Activity API answers: 1 of 5 subscriptions run",
    ]) {
        assert!(line.starts_with(begin), "{line}");
    }
    let paths = [
        format!("/{TENANT}/oauth2/v2.0/token"),
        format!("/api/v1.0/{TENANT}/activity/feed/subscriptions/list"),
    ];
    assert_eq!(server.seen(), paths);
}

#[test]
fn add_keeps_a_tenant_whose_test_failed() {
    let place = Place::new();
    let said = place.run_with(
        &["tenant", "add", "contoso", "--from", "-"],
        &hand_over(TENANT),
    );
    assert_eq!(said.code, 3, "{}", said.err);
    assert!(
        said.out.contains("contoso: WRONG  sign-in: "),
        "{}",
        said.out
    );
    assert!(
        said.err.contains("contoso stored, but not well yet"),
        "{}",
        said.err
    );
    assert_eq!(place.read("secrets/contoso"), SECRET);
}

#[test]
fn import_takes_all_texts_or_none() {
    let place = Place::new();
    let others = ["aaaaaaaa", "bbbbbbbb"].map(|start| TENANT.replace("8a3c1b6e", start));
    place.write("texts/contoso.txt", hand_over(&others[0]));
    place.write("texts/fabrikam", hand_over(&others[1]));
    place.write("texts/.hidden", "nothing");
    place.write("texts/Northwind.txt", hand_over(TENANT));
    place.write("texts/tailspin.txt", "Tenant ID: none");
    let before = place.files();
    let said = place.run(&["tenant", "import", "texts"]);
    assert_eq!(said.code, 78);
    for wrong in [
        "texts/Northwind.txt: the file's name is to become the tenant's",
        "texts/tailspin.txt: the tenant ID is no GUID",
        "nothing was stored",
    ] {
        assert!(said.err.contains(wrong), "{}", said.err);
    }
    assert_eq!(place.files(), before);
    fs::remove_file(place.path("texts/Northwind.txt")).unwrap();
    // the same tenant twice
    place.write("texts/tailspin.txt", hand_over(&others[0]));
    let said = place.run(&["tenant", "import", "texts"]);
    assert!(
        said.err
            .contains("tailspin: tenant contoso has the same tenant ID"),
        "{}",
        said.err
    );
    assert!(!place.path("tenants.d/contoso.toml").exists());
    fs::remove_file(place.path("texts/tailspin.txt")).unwrap();
    let said = place.run(&["tenant", "import", "texts"]);
    // stored, and both tested: Microsoft cannot be reached from here
    assert_eq!(said.code, 3, "{}", said.err);
    assert!(
        said.err
            .contains("contoso, fabrikam stored, but not well yet"),
        "{}",
        said.err
    );
    assert!(
        said.out.contains("contoso: WRONG") && said.out.contains("fabrikam: WRONG"),
        "{}",
        said.out
    );
    assert_eq!(
        place.run(&["check"]).out,
        "DIR/config.toml: no problem found, 2 tenants\n"
    );
}

#[test]
fn remove_takes_the_file_and_the_secret() {
    let place = Place::new();
    let add = |name: &str, tenant: &str| {
        let add = ["tenant", "add", name, "--from", "-", "--no-test"];
        assert_eq!(place.run_with(&add, &hand_over(tenant)).code, 0);
    };
    let before = place.files();
    add("contoso", TENANT);
    let said = place.run(&["tenant", "remove", "contoso"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert!(
        said.out
            .starts_with("contoso: removed, its secret too. The ledger still knows"),
        "{}",
        said.out
    );
    assert_eq!(place.files(), before);
    assert_eq!(place.run(&["tenant", "remove", "contoso"]).code, 2);
    // a secret that another tenant uses too stays
    add("contoso", TENANT);
    let other = TENANT.replace("8a3c1b6e", "aaaaaaaa");
    let file = format!(
        "tenant_id = '{other}'\nclient_id = '{CLIENT}'\nclient_secret_file = 'secrets/contoso'\n"
    );
    place.write("tenants.d/fabrikam.toml", file);
    let said = place.run(&["tenant", "remove", "contoso"]);
    assert!(
        said.out.contains("DIR/secrets/contoso stays"),
        "{}",
        said.out
    );
    assert_eq!(place.run(&["check"]).code, 0);
}

#[test]
fn rotate_tests_the_new_secret_before_it_replaces_the_old() {
    let server = Server::start(NEW_SECRET, BOTH);
    let place = Place::with_tenant(&server);
    let rotate = |text: &str| place.run_with(&["tenant", "rotate", "contoso", "--from", "-"], text);
    let said = rotate("Client secret: thisSecretIsNotTheOneThatAzureKnows\n");
    assert_eq!(said.code, 77);
    assert!(
        said.err.contains("AADSTS7000215") && said.err.contains("the one in use is untouched"),
        "{}",
        said.err
    );
    assert_eq!(place.read("secrets/contoso"), SECRET);

    let said = rotate(&format!("client id: {TENANT}\nsecret: {NEW_SECRET}\n"));
    assert_eq!(said.code, 78);
    assert!(
        said.err.contains("the text is for client ID"),
        "{}",
        said.err
    );
    assert_eq!(
        server.seen().len(),
        1,
        "another application's secret is not tried"
    );

    let before = fs::metadata(place.path("secrets/contoso")).unwrap();
    let said = rotate(&format!("{NEW_SECRET}\n"));
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert_eq!(
        said.out,
        format!(
            "contoso: the new secret signs in and is in DIR/secrets/contoso; the next run uses it\n\
             contoso: ok     signed in as the application {CLIENT}\n\
             contoso: ok     permissions: ActivityFeed.Read, ActivityFeed.ReadDlp\n\
             contoso: ok     the Activity API answers: 1 of 5 subscriptions run; the next run starts the \
             others, and Microsoft gathers from then on\n"
        )
    );
    assert_eq!(place.read("secrets/contoso"), NEW_SECRET);
    assert_eq!(place.mode("secrets/contoso"), 0o600);
    let after = fs::metadata(place.path("secrets/contoso")).unwrap();
    // by which a run knows that its back-off is over
    assert_ne!(
        (before.mtime(), before.mtime_nsec()),
        (after.mtime(), after.mtime_nsec())
    );
    assert_eq!(
        place
            .run(&["tenant", "rotate", "fabrikam", "--from", "-"])
            .code,
        2
    );
}

#[test]
fn a_missing_permission_is_told_with_the_clicks() {
    let server = Server::start(NEW_SECRET, r#""ServiceHealth.Read""#);
    let place = Place::with_tenant(&server);
    let said = place.run_with(&["tenant", "rotate", "contoso", "--from", "-"], NEW_SECRET);
    assert_eq!(said.code, 3);
    assert!(
        said.out.contains(
            "contoso: WRONG  the application lacks the permission ActivityFeed.Read; in Azure: App \
             registrations > the app > API permissions > Add a permission > Office 365 Management APIs > \
             Application permissions (not Delegated) > ActivityFeed.Read, then Grant admin consent"
        ),
        "{}",
        said.out
    );
    // the secret is good all the same
    assert_eq!(place.read("secrets/contoso"), NEW_SECRET);
}

#[test]
fn setup_write_inserts_the_block_once_after_a_backup() {
    let place = Place::new();
    let before = include_str!("fixtures/ossec/manager-two-roots.conf");
    let conf = place.write("ossec/etc/ossec.conf", before);
    fs::set_permissions(&conf, fs::Permissions::from_mode(0o660)).unwrap();
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&conf, Some(0), Some(4321)).unwrap();
    }
    let owner = |path: &Path| {
        let metadata = fs::metadata(path).unwrap();
        (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777)
    };
    let was = owner(&conf);
    let said = place.run(&["setup", "--write"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert!(
        said.out
            .starts_with("DIR/ossec/etc/ossec.conf: the block was inserted at line "),
        "{}",
        said.out
    );
    let after = place.read("ossec/etc/ossec.conf");
    assert_eq!(after.matches("<tag>o365-wodle</tag>").count(), 1);
    assert_eq!(after.matches("<ossec_config>").count(), 2);
    let files = place.files();
    let backup = files.iter().find(|name| name.contains(".bak")).unwrap();
    assert_eq!(place.read(backup), before);
    assert_eq!((owner(&place.path(backup)), owner(&conf)), (was, was));

    let said = place.run(&["setup", "--write"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert!(
        said.out.contains("the block is there already"),
        "{}",
        said.out
    );
    assert_eq!(
        (place.read("ossec/etc/ossec.conf"), place.files()),
        (after, files)
    );
}

#[test]
fn setup_write_prints_the_block_where_the_file_is_beyond_it() {
    let place = Place::new();
    let said = place.run(&["setup", "--write"]);
    assert_eq!(said.code, 78);
    assert!(
        said.err.contains("DIR/ossec/etc/ossec.conf: "),
        "{}",
        said.err
    );
    let broken = b"<ossec_config>\n  <a>\xe9 & b</a>\n</ossec_config>\n";
    place.write("ossec/etc/ossec.conf", broken);
    let files = place.files();
    let said = place.run(&["setup", "--write"]);
    assert_eq!(said.code, 3);
    assert_eq!(said.out, place.run(&["setup"]).out);
    assert!(
        said.err.contains("was not changed: it is no UTF-8 text"),
        "{}",
        said.err
    );
    assert_eq!(
        fs::read(place.path("ossec/etc/ossec.conf")).unwrap(),
        broken
    );
    assert_eq!(place.files(), files);
}
