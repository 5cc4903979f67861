//! Detects endpoints that lead back to the extension: telemetry sent there would be received and sent again without end.

// Addresses only; the sockets are in `std::net`.
use ::core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use url::{Host, Url};

use super::value::ListenAddress;

/// Returns an error if a URL leads to one of the extension's own listeners.
pub(super) fn reject(url: &Url, own_addresses: &[&ListenAddress]) -> Result<(), String> {
    let port = url.port_or_known_default();
    let found =
        own_addresses.iter().find(|address| Some(address.port) == port && reaches(url, &address.host));
    found.map_or(Ok(()), |address| {
        Err(format!(
            "the endpoint is this extension's own listener, {}, so telemetry would loop; set the address of your ClickStack",
            address.shown()
        ))
    })
}

/// Returns true if a URL's host leads to a listener on the host `listening`. Different loopback addresses count as different
/// hosts, because each sandbox and test has its own.
fn reaches(url: &Url, listening: &str) -> bool {
    let listening_ip = listening.parse::<IpAddr>().ok();
    let on_all_addresses = listening_ip.is_some_and(|ip| ip.is_unspecified());
    let on_loopback =
        listening == "localhost" || on_all_addresses || listening_ip.is_some_and(is_default_loopback);
    let ip = match url.host() {
        Some(Host::Ipv4(ip)) => IpAddr::V4(ip),
        Some(Host::Ipv6(ip)) => ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4),
        // Platform: `sandbox` and `sandbox.localdomain` resolve to the execution environment itself.
        Some(Host::Domain("localhost" | "sandbox" | "sandbox.localdomain")) => return on_loopback,
        Some(Host::Domain(name)) => return name == listening,
        None => return false,
    };
    Some(ip) == listening_ip
        || (on_all_addresses && ip.is_loopback())
        || (on_loopback && (ip.is_unspecified() || is_default_loopback(ip)))
}

fn is_default_loopback(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip == Ipv4Addr::LOCALHOST,
        IpAddr::V6(ip) => ip == Ipv6Addr::LOCALHOST,
    }
}
