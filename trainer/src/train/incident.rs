//! A sampler's thread may die and be restarted, once. Says so, because a second time ends the run.

/// Watches the samplers of one arm, and speaks once for every new reason.
#[derive(Default)]
pub(super) struct IncidentWatch {
    /// What was told.
    pub(super) told: Vec<String>,
}

impl IncidentWatch {
    /// Takes in what the samplers say happened to them by the end of a step, and returns what is new.
    pub(super) fn observe(&mut self, incidents: impl Iterator<Item = String>) -> Option<String> {
        let new: Vec<String> = incidents.filter(|incident| !self.told.contains(incident)).collect();
        self.told.extend_from_slice(&new);
        (!new.is_empty()).then(|| new.join("; "))
    }
}

/// What there is to say of an incident.
pub(super) fn warning(incident: &str) -> String {
    format!(
        "the sampler's thread died and was restarted with the last weights: {incident}. No tree was lost or changed, but another such death \
         ends the run: free memory, or use fewer rollout.slots"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_incident_is_told_once() {
        let mut watch = IncidentWatch::default();
        let mut told = |incidents: &[&str]| watch.observe(incidents.iter().map(|one| (*one).to_owned()));
        assert_eq!(told(&[]), None);
        assert_eq!(told(&["it panicked"]).as_deref(), Some("it panicked"));
        assert_eq!(told(&["it panicked"]), None);
        assert_eq!(told(&["it panicked", "it ended"]).as_deref(), Some("it ended"));
        assert!(warning("it ended").contains("restarted with the last weights: it ended."));
    }
}
