//! Feature flags.

/// The state of a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// Never available.
    Disabled,
    /// Available, off unless asked for.
    Enabled,
    /// Available, and preselected in the web page.
    Default,
    /// Always on.
    Forced,
}

impl Feature {
    pub fn is_available(self) -> bool {
        self != Self::Disabled
    }

    /// Whether an upload has the feature unless its sender says otherwise.
    pub fn is_on_by_default(self) -> bool {
        matches!(self, Self::Default | Self::Forced)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Enabled => "enabled",
            Self::Default => "default",
            Self::Forced => "forced",
        }
    }
}

/// The states that a flag may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum States {
    Two,
    Four,
}

impl States {
    /// The state of that name, in lower case.
    pub(super) fn parse(self, text: &str) -> Option<Feature> {
        self.all()
            .iter()
            .copied()
            .find(|feature| feature.as_str() == text)
    }

    /// Their names, joined by `|`.
    pub(super) fn names(self) -> String {
        let names: Vec<_> = self.all().iter().map(|feature| feature.as_str()).collect();
        names.join("|")
    }

    fn all(self) -> &'static [Feature] {
        const ALL: &[Feature] = &[
            Feature::Disabled,
            Feature::Enabled,
            Feature::Default,
            Feature::Forced,
        ];
        match self {
            Self::Two => &ALL[..2],
            Self::Four => ALL,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_has_only_two_states() {
        assert_eq!(States::Four.parse("forced"), Some(Feature::Forced));
        assert_eq!(States::Two.parse("enabled"), Some(Feature::Enabled));
        assert_eq!(States::Two.parse("forced"), None);
        assert_eq!(States::Four.parse("Enabled"), None);
        assert_eq!(States::Four.names(), "disabled|enabled|default|forced");
        assert_eq!(States::Two.names(), "disabled|enabled");
    }

    #[test]
    fn default_and_forced_are_on_unless_declined() {
        assert!(Feature::Default.is_on_by_default() && Feature::Forced.is_on_by_default());
        assert!(!Feature::Enabled.is_on_by_default() && !Feature::Disabled.is_on_by_default());
    }
}
