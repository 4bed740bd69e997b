//! Revocations that somebody asks for.

use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::Plane;
use crate::tls::acme::revoke::{Reason, Revocation, find};

impl Plane {
    /// Has a certificate revoked by the authority that issued it, which is waited for elsewhere:
    /// the control plane goes on. The answer tells what was done.
    pub(super) fn revoke(
        &self,
        name: &str,
        (reason, renews): (Reason, bool),
        answer: oneshot::Sender<Value>,
    ) {
        let config = &self.state.config;
        let wanted = match find(config, name) {
            Ok(wanted) => wanted,
            Err(error) => {
                // Who asked may have gone.
                let _ = answer.send(json!({ "ok": false, "error": error }));
                return;
            }
        };
        let keeper = self.acme.keeper(&wanted.names);
        let site = wanted.site.clone();
        let revocation = Revocation::of(config, &self.state.roots, wanted, (reason, renews));
        let next = match (renews, revocation.is_on_demand()) {
            (true, false) => "another is asked for now",
            (true, true) => "it is shown to nobody, and another is got where `ask` allows it anew",
            (false, _) => "no other is asked for",
        };
        tokio::spawn(async move {
            let told = match revocation.run().await {
                Ok(revoked) => {
                    let (names, directory) = (revoked.names.join(", "), &revoked.directory);
                    tracing::warn!(
                        "site {site}: {directory} has revoked the certificate for {names} \
                         ({reason}), as was asked; {next}"
                    );
                    json!({ "ok": true, "revoked": revoked })
                }
                Err(error) => {
                    tracing::warn!("site {site}: a revocation was asked for: {error}");
                    json!({ "ok": false, "error": error })
                }
            };
            // That it was revoked before may be news too.
            if let Some(keeper) = keeper {
                keeper.revoked();
            }
            let _ = answer.send(told);
        });
    }
}
