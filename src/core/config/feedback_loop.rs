//! Whether an endpoint leads back to the extension: what is sent there would be received, sent there and received again.

// Addresses only; the sockets are in `std::net`.
use ::core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use url::{Host, Url};

use super::value::ListenAddress;

/// Refuses a URL that leads to one of the extension's `own` listeners.
pub(super) fn refuse(url: &Url, own: &[&ListenAddress]) -> Result<(), String> {
    let port = url.port_or_known_default();
    let found = own.iter().find(|address| Some(address.port) == port && reaches(url, &address.host));
    found.map_or(Ok(()), |address| {
        Err(format!(
            "this extension itself listens there, on {}, so telemetry would go in a circle; write the address \
             of your ClickStack",
            address.shown()
        ))
    })
}

/// Whether a URL's host leads to a listener on `listening`. Sandboxes and tests have each a loopback address of their
/// own, so that two of these differ.
fn reaches(url: &Url, listening: &str) -> bool {
    let listening_ip = listening.parse::<IpAddr>().ok();
    let everywhere = listening_ip.is_some_and(|ip| ip.is_unspecified());
    let usual = listening == "localhost" || everywhere || listening_ip.is_some_and(is_usual_loopback);
    let ip = match url.host() {
        Some(Host::Ipv4(ip)) => IpAddr::V4(ip),
        Some(Host::Ipv6(ip)) => ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4),
        // Platform: these two resolve to the environment itself.
        Some(Host::Domain("localhost" | "sandbox" | "sandbox.localdomain")) => return usual,
        Some(Host::Domain(name)) => return name == listening,
        None => return false,
    };
    Some(ip) == listening_ip
        || (everywhere && ip.is_loopback())
        || (usual && (ip.is_unspecified() || is_usual_loopback(ip)))
}

fn is_usual_loopback(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip == Ipv4Addr::LOCALHOST,
        IpAddr::V6(ip) => ip == Ipv6Addr::LOCALHOST,
    }
}
