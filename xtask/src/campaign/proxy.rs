//! Row 17: through a real forward proxy that wants a password, tinyproxy, to the login host and the API host alike.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use simulator::microsoft::Options;

use super::bench::Bench;
use super::{Case, Column, Setup, Trial};

/// Row 17.
pub(super) fn cases(_column: &Column) -> Vec<Case> {
    let case = |name: &str, work: fn(&Arc<Setup>) -> Trial| Case::new(name, work);
    vec![
        case("the right password", right),
        case("a wrong password", wrong),
    ]
}

/// A proxy that ends with its trial.
struct Proxy {
    child: Child,
    port: u16,
    log: std::path::PathBuf,
}

impl Proxy {
    fn start(folder: &Path) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let log = folder.join("tinyproxy.log");
        let settings = folder.join("tinyproxy.conf");
        let text = format!(
            "Port {port}\nListen 127.0.0.1\nTimeout 60\nLogLevel Connect\nLogFile \"{}\"\nMaxClients 100\n\
             BasicAuth wodle pa55.word\n",
            log.display()
        );
        fs::write(&settings, text).unwrap();
        let child = Command::new("tinyproxy")
            .arg("-d")
            .arg("-c")
            .arg(&settings)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let since = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(
                since.elapsed() < Duration::from_secs(20),
                "tinyproxy does not start"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { child, port, log }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A run behind a proxy, with two names for the two hosts; its exit code.
fn run(bench: &mut Bench, proxy: &Proxy, password: &str) -> Option<i32> {
    let folder = bench.folder.path().to_owned();
    let ca = folder.join("corp.pem");
    bench.microsoft.write_ca(&ca).unwrap();
    fs::write(folder.join("password"), format!("{password}\n")).unwrap();
    fs::set_permissions(folder.join("password"), fs::Permissions::from_mode(0o600)).unwrap();
    bench.set(
        "http",
        "ca_file",
        &format!("{:?}", ca.display().to_string()),
    );
    bench.set(
        "http",
        "proxy",
        &format!("\"http://wodle@127.0.0.1:{}\"", proxy.port),
    );
    bench.set("http", "proxy_password_file", "\"password\"");
    bench.set("http", "retries", "0");
    bench.configure();
    for (name, _) in &bench.tenants {
        let file = folder.join(format!("tenants.d/{name}.toml"));
        let text = fs::read_to_string(&file).unwrap();
        let login = text.replace(
            "login_url = \"https://localhost",
            "login_url = \"https://127.0.0.1",
        );
        assert_ne!(login, text);
        fs::write(&file, login).unwrap();
    }
    bench.run_as_it_stands(&["run"]).status.code()
}

fn bench(setup: &Arc<Setup>) -> (Bench, Proxy) {
    let options = Options {
        tls: true,
        ..Options::default()
    };
    let mut bench = Bench::new(setup, options);
    bench.issue_some();
    let proxy = Proxy::start(bench.folder.path());
    (bench, proxy)
}

fn right(setup: &Arc<Setup>) -> Trial {
    let (mut bench, proxy) = bench(setup);
    let code = run(&mut bench, &proxy, "pa55.word");
    assert_eq!(code, Some(0), "{}", bench.log());
    let log = fs::read_to_string(&proxy.log).unwrap();
    for host in ["127.0.0.1", "localhost"] {
        let asked = format!("CONNECT {host}:");
        assert!(
            log.contains(&asked),
            "{host} was not reached through the proxy: {log}"
        );
    }
    bench.judge()
}

fn wrong(setup: &Arc<Setup>) -> Trial {
    let (mut bench, proxy) = bench(setup);
    let code = run(&mut bench, &proxy, "guess");
    assert_eq!(code, Some(75), "{}", bench.log());
    assert_eq!(bench.microsoft.request_count(), 0);
    let said = "the proxy does not let the request through";
    assert!(bench.log().contains(said), "{}", bench.log());
    Trial::default()
}
