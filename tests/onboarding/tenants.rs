//! `tenant add`, `import`, `remove` and `rotate`.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;
use std::thread;
use std::time::Duration;

use super::microsoft::{BOTH, Server};
use super::place::{CLIENT, NEW_SECRET, Place, SECRET, TENANT, hand_over};

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
fn what_came_through_a_pipe_cannot_be_deleted() {
    let place = Place::new();
    let add = ["tenant", "add", "contoso", "--no-test", "--from"];
    let said = place.run_with(&[&add[..], &["/dev/stdin"]].concat(), &hand_over(TENANT));
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert!(said.out.starts_with("contoso: stored in "), "{}", said.out);
    assert!(!said.out.contains("deleted"), "{}", said.out);
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
        (
            format!("tenant id: {TENANT}\nclient id: {CLIENT}\nsecret: {SECRET}\u{1b}\n"),
            "-: the client secret has more than one line, or control characters",
        ),
    ] {
        let said = place.run_with(&add, &text);
        assert_eq!(said.code, 78, "{text}");
        assert!(said.err.contains(wrong), "{}", said.err);
        assert_eq!((place.files(), said.out.as_str()), (before.clone(), ""));
    }
    let empty = place.write("empty.txt", "");
    let said = place.run(&["tenant", "add", "contoso", "--from", "empty.txt"]);
    let begins = "o365-wodle: empty.txt: the file is empty; ";
    assert_eq!((said.code, said.err.starts_with(begins)), (78, true));
    fs::remove_file(empty).unwrap();
    let said = place.run(&["tenant", "add", "contoso", "--from", "nowhere.txt"]);
    assert_eq!(said.code, 2);
    let said = place.run(&["tenant", "add", "../contoso", "--from", "-"]);
    assert_eq!(said.code, 2);
    assert_eq!(place.files(), before);
}

#[test]
fn add_tells_what_is_odd_in_a_secret_and_stores_it() {
    let place = Place::new();
    let text = format!("tenant id: {TENANT}\nclient id: {CLIENT}\nsecret: Old@1;x/\n");
    let add = ["tenant", "add", "contoso", "--from", "-", "--no-test"];
    let said = place.run_with(&add, &text);
    assert_eq!(said.code, 0);
    assert_eq!(
        said.err,
        "o365-wodle: contoso: the client secret has 8 characters where Azure's have 40; it is stored as it stands. \
         If it does not sign in, ask for the value once more\n"
    );
    assert_eq!(place.read("secrets/contoso"), "Old@1;x/");
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
    let lines: Vec<_> = said.out.lines().map(words).collect();
    let cure = "cure: to collect DLP.All, in Azure: App registrations > the app > API permissions > Add a permission > Office 365 \
                Management APIs > Application permissions (not Delegated) > ActivityFeed.ReadDlp, then Grant admin consent, \
                and wait some minutes; otherwise take DLP.All out of content_types";
    for line in [
        "note contoso: permissions: the application lacks the permission ActivityFeed.ReadDlp, so DLP.All is left out",
        cure,
    ] {
        assert!(lines.contains(&line.to_owned()), "{}", said.out);
    }
    for begin in [
        "ok https://login.microsoftonline.com tls ",
        "ok https://manage.office.com tls ",
        "ok contoso credential ",
        "ok contoso sign-in ",
        "ok contoso permissions ",
        "ok contoso subscriptions ",
        "ok contoso listing ",
    ] {
        assert!(
            lines.iter().any(|line| line.starts_with(begin)),
            "{begin}: {}",
            said.out
        );
    }
    let feed = format!("/api/v1.0/{TENANT}/activity/feed/subscriptions");
    let asked = [
        "/".to_owned(),
        "/".to_owned(),
        format!("/{TENANT}/oauth2/v2.0/token"),
        format!("{feed}/list"),
    ];
    assert_eq!(server.seen()[..4], asked);
    assert!(
        server.seen()[4..]
            .iter()
            .all(|path| *path == format!("{feed}/content"))
    );
}

/// A line with its blanks folded.
fn words(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
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
        said.out.starts_with("contoso: stored in ")
            && said
                .out
                .contains("WRONG  connection: https://login.microsoftonline.com: the proxy "),
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
fn a_missing_permission_is_told_with_the_clicks() {
    let server = Server::start(NEW_SECRET, r#""ServiceHealth.Read""#);
    let place = Place::with_tenant(&server);
    let said = place.run_with(&["tenant", "rotate", "contoso", "--from", "-"], NEW_SECRET);
    assert_eq!(said.code, 3);
    assert!(
        said.out.contains(
            "WRONG  contoso: permissions: the application lacks the permission ActivityFeed.Read\n       cure: in Azure: App \
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
fn import_takes_all_texts_or_none() {
    let place = Place::new();
    let others = ["aaaaaaaa", "bbbbbbbb"].map(|start| TENANT.replace("8a3c1b6e", start));
    place.write("texts/contoso.txt", hand_over(&others[0]));
    place.write("texts/fabrikam", hand_over(&others[1]));
    place.write("texts/.hidden", "nothing");
    place.write("texts/Northwind.txt", hand_over(TENANT));
    place.write("texts/tailspin.txt", "Tenant ID: none");
    place.write("texts/more/adatum.txt", hand_over(TENANT));
    let link = place.path("texts/nowhere.txt");
    std::os::unix::fs::symlink("gone.txt", &link).unwrap();
    let before = place.files();
    let said = place.run(&["tenant", "import", "texts"]);
    assert_eq!(said.code, 78);
    for wrong in [
        "texts/Northwind.txt: the file's name is to become the tenant's",
        "texts/tailspin.txt: the tenant ID is no GUID",
        "texts/nowhere.txt: where the link leads: No such file or directory (os error 2); correct it",
        "nothing was stored",
    ] {
        assert!(said.err.contains(wrong), "{}", said.err);
    }
    assert_eq!(place.files(), before);
    fs::remove_file(link).unwrap();
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
    // the same name twice
    place.write("texts/contoso.md", hand_over(TENANT));
    let said = place.run(&["tenant", "import", "texts"]);
    assert_eq!(said.code, 78);
    assert!(
        said.err.contains("contoso: two files give this name") && !said.err.contains("rotate"),
        "{}",
        said.err
    );
    fs::remove_file(place.path("texts/contoso.md")).unwrap();
    let said = place.run(&["tenant", "import", "texts"]);
    // stored, and both tested: Microsoft cannot be reached from here
    assert_eq!(said.code, 3, "{}", said.err);
    for told in [
        "texts/.hidden: skipped, its name begins with a dot\n",
        "texts/more: skipped, it is a folder: import it by itself\n",
        "texts: the 2 files that were taken in were not changed and still hold the secrets: they can be deleted now\n",
    ] {
        assert!(said.out.contains(told), "{}", said.out);
    }
    assert!(
        said.err
            .contains("contoso, fabrikam stored, but not well yet"),
        "{}",
        said.err
    );
    assert!(
        said.out
            .contains("WRONG  connection: https://login.microsoftonline.com: the proxy "),
        "{}",
        said.out
    );
    for name in ["contoso", "fabrikam"] {
        let is_skipped = |line: &str| words(line).starts_with(&format!("skipped {name} sign-in "));
        assert!(said.out.lines().any(is_skipped), "{}", said.out);
    }
    assert_eq!(
        place.run(&["check"]).out,
        "DIR/config.toml: no problem found, 2 tenants\n"
    );
}

#[test]
fn import_that_is_asked_to_stop_takes_none() {
    let place = Place::new();
    for number in 0..300 {
        let tenant = TENANT.replace("8a3c1b6e", &format!("{number:08}"));
        place.write(&format!("texts/customer-{number}"), hand_over(&tenant));
    }
    let before = place.files();
    let importing = place.start(&["tenant", "import", "texts"]);
    while !place.path("secrets").exists() {
        thread::sleep(Duration::from_millis(1));
    }
    Command::new("kill")
        .arg(importing.id().to_string())
        .status()
        .unwrap();
    let said = place.said(importing);
    assert_eq!(said.code, 75, "{}", said.err);
    assert!(said.err.contains("nothing was stored"), "{}", said.err);
    assert_eq!(place.files(), before);
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
fn remove_says_what_stays_of_a_secret() {
    let place = Place::new();
    let add = || {
        let add = ["tenant", "add", "contoso", "--from", "-", "--no-test"];
        assert_eq!(place.run_with(&add, &hand_over(TENANT)).code, 0);
    };
    let secret = place.path("secrets/contoso");
    add();
    fs::rename(&secret, place.path("secrets/kept")).unwrap();
    std::os::unix::fs::symlink("kept", &secret).unwrap();
    let said = place.run(&["tenant", "remove", "contoso"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    let link =
        "contoso: removed, its secret was a link: DIR/secrets/kept, to which it led, stays. ";
    assert!(said.out.starts_with(link), "{}", said.out);
    assert!(!secret.is_symlink() && place.path("secrets/kept").exists());
    // what cannot be deleted
    add();
    fs::remove_file(&secret).unwrap();
    fs::create_dir(&secret).unwrap();
    let said = place.run(&["tenant", "remove", "contoso"]);
    assert_eq!(said.code, 3);
    let stays = "o365-wodle: contoso is removed, but its secret DIR/secrets/contoso could not be: ";
    assert!(
        said.err.starts_with(stays) && said.err.ends_with("; delete it\n"),
        "{}",
        said.err
    );
    assert!(!place.path("tenants.d/contoso.toml").exists());
}

#[test]
fn remove_says_what_stays() {
    let place = Place::new();
    for (key, stays) in [
        (
            "certificate_file = 'contoso.pem'",
            "certificate_file DIR/contoso.pem",
        ),
        (
            "federated_token_file = '/run/token'",
            "federated_token_file /run/token",
        ),
        (
            "client_secret_command = ['/bin/vault', 'read']",
            "client_secret_command /bin/vault",
        ),
        (
            "client_secret_credential = 'contoso'",
            "client_secret_credential contoso",
        ),
        (
            "client_secret_file = 'elsewhere'",
            "client_secret_file DIR/elsewhere",
        ),
    ] {
        let file = format!("tenant_id = '{TENANT}'\nclient_id = '{CLIENT}'\n{key}\n");
        place.write("tenants.d/contoso.toml", file);
        let said = place.run(&["tenant", "remove", "contoso"]);
        assert_eq!((said.code, said.err.as_str()), (0, ""));
        let expected = format!(
            "contoso: removed, {stays} stays: others may use it; delete it if nobody does. The ledger "
        );
        assert!(said.out.starts_with(&expected), "{}", said.out);
    }
}

#[test]
fn rotate_leaves_no_secret_that_the_next_run_refuses() {
    let server = Server::start(NEW_SECRET, BOTH);
    let place = Place::with_tenant(&server);
    let chmod = |name: &str, mode| {
        fs::set_permissions(place.path(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    let rotate = || place.run_with(&["tenant", "rotate", "contoso", "--from", "-"], NEW_SECRET);
    chmod("secrets", 0o770);
    let said = rotate();
    assert_eq!(said.code, 78, "{}", said.out);
    let cure = "DIR/secrets is writable by others (mode 0770); chmod go-w DIR/secrets";
    assert!(said.err.contains(cure), "{}", said.err);
    assert_eq!(place.read("secrets/contoso"), SECRET);
    chmod("secrets", 0o750);
    // readable by a group that is not `wazuh`
    chmod("secrets/contoso", 0o640);
    assert_eq!(rotate().code, 0);
    assert_eq!(place.read("secrets/contoso"), NEW_SECRET);
    let said = place.run(&["check"]);
    assert_eq!(said.code, 0, "{}", said.err);
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
    let sign_ins = || {
        let mut paths = server.seen();
        paths.retain(|path| path.ends_with("/token"));
        paths.len()
    };
    assert_eq!(sign_ins(), 1, "another application's secret is not tried");

    // Last year's mail, or the old one beside the new.
    let said = rotate(&format!("Client secret (expires soon): {SECRET}\n"));
    assert_eq!((said.code, said.out.as_str()), (78, ""));
    assert!(said.err.contains("in use already"), "{}", said.err);
    assert_eq!(sign_ins(), 1);

    let before = fs::metadata(place.path("secrets/contoso")).unwrap();
    let said = rotate(&format!("{NEW_SECRET}\n"));
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert!(
        said.out.starts_with(
            "contoso: the new secret signs in and is in DIR/secrets/contoso; the next run uses it\n"
        ),
        "{}",
        said.out
    );
    let is_signed_in = |line: &str| words(line).ends_with(&format!("as the application {CLIENT}"));
    assert!(said.out.lines().any(is_signed_in), "{}", said.out);
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
