//! Whether anybody could log in.

use super::Features;
use super::wrong;
use crate::config::Secret;
use crate::config::error::ConfigError;
use crate::config::keys::Settings;

pub(super) fn check_default_admin(s: &Settings, features: &Features) -> Result<(), ConfigError> {
    const LOGIN: &str = "DefaultAdminLogin";
    const PASSWORD: &str = "DefaultAdminPassword";
    let password = s.default_admin_password.expose();
    if s.default_admin_login.is_empty() {
        return Ok(());
    }
    if !features.authentication.is_available() {
        let message = "DefaultAdminLogin is set but FeatureAuthentication is disabled";
        let remedy = "set FeatureAuthentication to \"enabled\", or remove DefaultAdminLogin";
        return Err(wrong(LOGIN, message, remedy));
    }
    if !features.local_login.is_available() {
        let message = "DefaultAdminLogin is set but FeatureLocalLogin is disabled";
        let remedy = "set FeatureLocalLogin to \"enabled\", or remove DefaultAdminLogin";
        return Err(wrong(LOGIN, message, remedy));
    }
    if s.default_admin_login.len() < 4 {
        let message = "DefaultAdminLogin is too short (min 4 chars)";
        return Err(wrong(LOGIN, message, "choose a longer login"));
    }
    if !password.is_empty() && password.len() < 8 {
        let message = "DefaultAdminPassword is too short (min 8 chars)";
        let remedy = "choose a longer password, or remove it to have one made up";
        return Err(wrong(PASSWORD, message, remedy));
    }
    Ok(())
}

pub(super) fn check_login_methods(s: &Settings, features: &Features) -> Result<(), ConfigError> {
    let both = |id: &str, secret: &Secret| !id.is_empty() && !secret.expose().is_empty();
    let possible = features.local_login.is_available()
        || both(&s.google_api_client_id, &s.google_api_secret)
        || both(&s.ovh_api_key, &s.ovh_api_secret)
        || both(&s.oidc_client_id, &s.oidc_client_secret) && !s.oidc_provider_url.is_empty()
        || both(&s.github_api_client_id, &s.github_api_secret);
    if possible || !features.authentication.is_available() {
        return Ok(());
    }
    Err(wrong(
        "FeatureAuthentication",
        "authentication is enabled but no authentication method is available, enable at least \
         one of : FeatureLocalLogin, Google, OVH, OIDC, or GitHub",
        "set FeatureLocalLogin to \"enabled\", or both the id and the secret of a provider",
    ))
}
