//! Serves a default world for trying things out: `simulator [PORT]`.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};

use chrono::TimeDelta;
use simulator::microsoft::{CONTENT_TYPES, Microsoft, Options, Records, TenantSpec};

fn main() -> io::Result<()> {
    let port = match std::env::args().nth(1).map(|port| port.parse()) {
        None => 0,
        Some(Ok(port)) => port,
        Some(Err(_)) => return Err(io::Error::other("usage: simulator [PORT]")),
    };
    let microsoft = Microsoft::start(Options {
        bind: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        ..Options::default()
    })?;
    let mut out = io::stdout().lock();
    writeln!(out, "login and management URL: {}", microsoft.url())?;
    for number in 1..=3 {
        let tenant = TenantSpec::numbered(number);
        microsoft.add_tenant(tenant.clone());
        for content_type in CONTENT_TYPES {
            for age in 1..=4 {
                let records = Records::new(number * 100 + age).take(25);
                let hours = TimeDelta::hours(age.cast_signed() * 5);
                microsoft.issue(
                    &tenant.tenant_id,
                    content_type,
                    records,
                    microsoft.now() - hours,
                );
            }
        }
        writeln!(
            out,
            "Tenant ID: {}\nClient ID: {}\nClient secret: {}",
            tenant.tenant_id, tenant.client_id, tenant.secret
        )?;
    }
    out.flush()?;
    loop {
        std::thread::park();
    }
}
