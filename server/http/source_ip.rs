//! Where a request comes from.

use std::net::IpAddr;

use http::HeaderMap;
use ipnet::IpNet;

use super::error::ApiError;
use crate::config::Config;

/// The address of the client: the value of `SourceIpHeader` if that is set and sent, else `peer`.
///
/// # Errors
///
/// [`ApiError::InvalidSource`] if the header holds anything else than one address.
pub fn source_ip(headers: &HeaderMap, peer: IpAddr, config: &Config) -> Result<IpAddr, ApiError> {
    let header = match config.source_ip_header.as_str() {
        "" => None,
        name => headers.get(name).filter(|value| !value.is_empty()),
    };
    let address = match header {
        Some(value) => value
            .to_str()
            .ok()
            .and_then(|text| text.parse().ok())
            .ok_or(ApiError::InvalidSource)?,
        None => peer,
    };
    // A socket for both families shows IPv4 peers as IPv6 addresses.
    Ok(address.to_canonical())
}

/// Whether an address may create uploads. An empty list lets everybody.
pub fn is_whitelisted(address: IpAddr, whitelist: &[IpNet]) -> bool {
    whitelist.is_empty() || whitelist.iter().any(|net| net.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::testing::config;

    fn source(header: Option<&'static str>, peer: &str) -> Option<String> {
        let mut config = config();
        config.source_ip_header = "X-Real-IP".to_owned();
        let mut headers = HeaderMap::new();
        if let Some(value) = header {
            headers.insert("x-real-ip", value.parse().unwrap());
        }
        let address = source_ip(&headers, peer.parse().unwrap(), &config);
        address.ok().map(|address| address.to_string())
    }

    #[test]
    fn the_header_decides_if_it_is_sent() {
        let given = |text: &str| Some(text.to_owned());
        assert_eq!(source(Some("10.0.0.1"), "192.0.2.1"), given("10.0.0.1"));
        assert_eq!(
            source(Some("2001:db8::1"), "192.0.2.1"),
            given("2001:db8::1")
        );
        assert_eq!(source(Some(""), "192.0.2.1"), given("192.0.2.1"));
        assert_eq!(source(None, "192.0.2.1"), given("192.0.2.1"));
        assert_eq!(source(None, "::ffff:192.0.2.1"), given("192.0.2.1"));
    }

    #[test]
    fn anything_but_one_address_is_refused() {
        for value in [
            "10.0.0.1, 1.1.1.1",
            "10.0.0.1:80",
            "localhost",
            "fe80::1%eth0",
        ] {
            assert_eq!(source(Some(value), "192.0.2.1"), None, "{value}");
        }
    }

    #[test]
    fn without_the_setting_no_header_is_looked_at() {
        let headers =
            HeaderMap::from_iter([("x-real-ip".parse().unwrap(), "junk".parse().unwrap())]);
        let peer = "192.0.2.1".parse().unwrap();
        assert_eq!(source_ip(&headers, peer, &config()).unwrap(), peer);
    }

    #[test]
    fn the_whitelist_holds_networks_of_both_families() {
        let list: Vec<IpNet> = ["10.0.0.0/8", "2001:db8::/32"]
            .iter()
            .map(|net| net.parse().unwrap())
            .collect();
        let allowed = |text: &str| is_whitelisted(text.parse().unwrap(), &list);
        assert!(allowed("10.1.2.3") && allowed("2001:db8::1"));
        assert!(!allowed("11.1.2.3") && !allowed("2001:db9::1"));
        assert!(is_whitelisted("11.1.2.3".parse().unwrap(), &[]));
    }
}
