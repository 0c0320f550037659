//! The feature flags, and the booleans that older configurations have instead.

use super::wrong;
use crate::config::error::ConfigError;
use crate::config::feature::{Feature, States};
use crate::config::keys::Settings;

pub(super) struct Features {
    pub(super) authentication: Feature,
    pub(super) one_shot: Feature,
    pub(super) removable: Feature,
    pub(super) stream: Feature,
    pub(super) password: Feature,
    pub(super) comments: Feature,
    pub(super) set_ttl: Feature,
    pub(super) extend_ttl: Feature,
    pub(super) github: Feature,
    pub(super) clients: Feature,
    pub(super) text: Feature,
    pub(super) local_login: Feature,
    pub(super) delete_account: Feature,
    pub(super) api_tokens: Feature,
    pub(super) e2ee: Feature,
}

impl Features {
    /// The flags, checked in this order; an old boolean counts where its flag is empty.
    pub(super) fn of(s: &Settings) -> Result<Self, ConfigError> {
        use Feature::{Disabled, Enabled};
        use States::{Four, Two};

        let authentication = match (s.no_anonymous_uploads, s.authentication) {
            (true, _) => Feature::Forced,
            (false, true) => Enabled,
            (false, false) => Disabled,
        };
        let old = |enabled| if enabled { Enabled } else { Disabled };
        let authentication = feature(
            "FeatureAuthentication",
            &s.feature_authentication,
            Four,
            authentication,
        )?;
        let one_shot = feature("FeatureOneShot", &s.feature_one_shot, Four, old(s.one_shot))?;
        let removable = feature(
            "FeatureRemovable",
            &s.feature_removable,
            Four,
            old(s.removable),
        )?;
        let stream = feature("FeatureStream", &s.feature_stream, Four, old(s.stream))?;
        let password = old(s.protected_by_password);
        let password = feature("FeaturePassword", &s.feature_password, Four, password)?;
        let comments = feature("FeatureComments", &s.feature_comments, Four, Enabled)?;
        let set_ttl = feature("FeatureSetTTL", &s.feature_set_ttl, Four, Enabled)?;
        let extend_ttl = feature("FeatureExtendTTL", &s.feature_extend_ttl, Four, Disabled)?;
        let github = feature("FeatureGithub", &s.feature_github, Two, Enabled)?;
        let clients = feature("FeatureClients", &s.feature_clients, Two, Enabled)?;
        let text = feature("FeatureText", &s.feature_text, Four, Enabled)?;
        let local_login = feature("FeatureLocalLogin", &s.feature_local_login, Two, Enabled)?;
        let delete_account = feature(
            "FeatureDeleteAccount",
            &s.feature_delete_account,
            Two,
            Enabled,
        )?;
        let api_tokens = feature("FeatureApiTokens", &s.feature_api_tokens, Two, Enabled)?;
        let e2ee = feature("FeatureE2EE", &s.feature_e2ee, Four, Enabled)?;
        // The command line client could not log in.
        let clients = match (authentication, api_tokens) {
            (Feature::Forced, Disabled) => Disabled,
            _ => clients,
        };
        Ok(Self {
            authentication,
            one_shot,
            removable,
            stream,
            password,
            comments,
            set_ttl,
            extend_ttl,
            github,
            clients,
            text,
            local_login,
            delete_account,
            api_tokens,
            e2ee,
        })
    }
}

fn feature(
    key: &'static str,
    text: &str,
    states: States,
    otherwise: Feature,
) -> Result<Feature, ConfigError> {
    if text.is_empty() {
        return Ok(otherwise);
    }
    states.parse(text).ok_or_else(|| {
        wrong(
            key,
            format!(
                "Invalid value for {key} : Invalid feature flag value. Expecting : {}",
                states.names()
            ),
            format!("set {key} to one of these words, in lower case"),
        )
    })
}
