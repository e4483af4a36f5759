//! What a run saw of a tenant, told to Wazuh where it is due.

use chrono::SecondsFormat;

use super::desk::Closed;
use super::event;
use super::health::{self, Finding, Said};
use super::order::Telling;
use super::tenant::Collector;
use crate::config::Authentication;
use crate::ledger::{self, HealthState, Ledger, Scope};

/// What becomes of a scope's states, and what is due to be said of them.
type Assessed = (Scope, Vec<HealthState>, Vec<Said>);

impl Collector {
    /// This run looked at a stream, or at the whole tenant: what is not found there has ended.
    pub(super) fn looked_at(&self, scope: Scope) {
        self.findings.borrow_mut().entry(scope).or_default();
    }

    /// This run saw a state of a stream, or of the whole tenant. Of a stream's faults the first counts.
    /// Whether it is news.
    pub(super) fn finds(&self, scope: Scope, finding: Finding) -> bool {
        let mut findings = self.findings.borrow_mut();
        let found = findings.entry(scope).or_default();
        let is_same = |other: &Finding| {
            other.state == finding.state || other.is_fault() && finding.is_fault()
        };
        let is_new = !found.iter().any(is_same);
        if is_new {
            found.push(finding);
        }
        is_new
    }

    /// Tells Wazuh what is due, once in a run, after the records that were handed over before. What it could not tell is left
    /// for [`Self::tell_later`].
    pub(super) async fn tell(&self) -> Result<(), Closed> {
        let Some(assess) = self.assessment() else {
            return Ok(());
        };
        for assessed in self.work.desk.ledger_in_turn(assess).await? {
            let scope = assessed.0;
            self.work.desk.tell(self.telling(assessed)).await?;
            self.findings.borrow_mut().remove(&scope);
        }
        self.findings.take();
        Ok(())
    }

    /// As [`Self::tell`], but leaves it to the next run to tell: waits for nothing that Wazuh may hold up.
    pub(super) async fn tell_later(&self) -> Result<(), Closed> {
        let Some(assess) = self.assessment() else {
            return Ok(());
        };
        let assessed = self.work.desk.ledger(assess).await?;
        self.leave_to_tell(assessed).await
    }

    pub(super) async fn leave_to_tell(&self, assessed: Vec<Assessed>) -> Result<(), Closed> {
        let tellings: Vec<_> = assessed.into_iter().map(|one| self.telling(one)).collect();
        self.work
            .desk
            .ledger(move |ledger| {
                tellings
                    .iter()
                    .try_for_each(|telling| telling.remember(ledger))
            })
            .await
    }

    /// The tenant is left alone, so that nothing of it is seen: its faults last.
    pub(super) async fn lasts(&self, error: &str) -> Result<(), Closed> {
        let (id, now) = (self.tenant.tenant_id.clone(), self.clock.now());
        let error = error.to_owned();
        let assess = move |ledger: &mut Ledger| {
            let known = ledger.health(&id)?.remove(&None).unwrap_or_default();
            let lasting = |state: &HealthState| Finding::lasting(state, &error);
            let found: Vec<Finding> = known.iter().filter_map(lasting).collect();
            let is_fault = |state: &HealthState| lasting(state).is_some();
            let (states, said) = health::assess_some(None, known, is_fault, &found, now);
            Ok((None, states, said))
        };
        let assessed = self.work.desk.ledger_in_turn(assess).await?;
        self.work.desk.tell(self.telling(assessed)).await
    }

    /// What finds out, in the ledger, which of this run's findings are due; `None` if there are none.
    fn assessment(
        &self,
    ) -> Option<impl FnOnce(&mut Ledger) -> Result<Vec<Assessed>, ledger::Fault> + Send + 'static>
    {
        let now = self.clock.now();
        if self.findings.borrow().contains_key(&None) {
            self.look_at_tenant();
        }
        let findings = self.findings.borrow().clone();
        let heard = self.heard.borrow().clone();
        if findings.is_empty() {
            return None;
        }
        let (tenant_id, streams) = (self.tenant.tenant_id.clone(), self.streams.borrow().clone());
        let silent_after = self.work.settings.collect.silent_after;
        let authentication = &self.tenant.authentication;
        let is_unread = matches!(authentication, Authentication::Certificate { .. })
            && self.certificate_ends.get().is_none();
        let is_unknown = !self.is_well.get();
        Some(move |ledger: &mut Ledger| {
            let mut known = ledger.health(&tenant_id)?;
            let mut assessed = Vec::new();
            for (scope, mut found) in findings {
                let stream = streams
                    .iter()
                    .find(|(_, content_type)| Some(*content_type) == scope);
                // What cannot be listed is neither silent nor known to speak again.
                let is_unheard = scope.is_some_and(|content_type| !heard.contains(&content_type));
                if let Some((stream, _)) = stream {
                    let standing = ledger.standing(*stream)?;
                    found.extend(health::of_standing(
                        &standing,
                        &found,
                        is_unheard,
                        silent_after,
                        now,
                    ));
                }
                let before = known.remove(&scope).unwrap_or_default();
                // A certificate that could not be read ends as it did; and who could not be asked may still refuse.
                let is_asked = found.iter().any(|finding| {
                    finding.is_fault() && !matches!(finding.state, "throttled" | "fetch_failed")
                });
                let is_looked_at = |state: &HealthState| {
                    let is_found = found.iter().any(|finding| finding.state == state.state);
                    let may_last =
                        is_unknown && !is_asked && health::FAULTS.contains(&&*state.state);
                    let is_certificate = is_unread && state.state == "certificate_expiring";
                    let lasts = match scope {
                        Some(_) => is_unheard && state.state == "silent",
                        None => may_last || is_certificate,
                    };
                    is_found || !lasts
                };
                let (states, said) =
                    health::assess_some(scope, before.clone(), is_looked_at, &found, now);
                if states != before || !said.is_empty() {
                    assessed.push((scope, states, said));
                }
            }
            Ok(assessed)
        })
    }

    /// The events about what is due.
    fn telling(&self, (scope, states, said): Assessed) -> Telling {
        Telling {
            tenant_id: self.tenant.tenant_id.clone(),
            scope,
            datagrams: said.iter().map(|said| self.event(scope, said)).collect(),
            states,
        }
    }

    /// What is seen of the whole tenant beside faults.
    fn look_at_tenant(&self) {
        let now = self.clock.now();
        let secret_ends = self.tenant.client_secret_expires;
        let certificate_ends = self.certificate_ends.get().map(|end| end.date_naive());
        let found = [
            self.clock.skew().and_then(Finding::of_skew),
            self.work.recovered.map(Finding::of_recovery),
            secret_ends.and_then(|end| Finding::of_expiry("secret_expiring", end, now)),
            certificate_ends.and_then(|end| Finding::of_expiry("certificate_expiring", end, now)),
        ];
        for finding in found.into_iter().flatten() {
            let is_skew = finding.state == "clock_skew";
            let said = format!("{}; {}", finding.response, finding.hint);
            if self.finds(None, finding) && is_skew {
                log::warn!("{}: {said}", self.tenant.name);
            }
        }
    }

    fn event(&self, scope: Scope, said: &Said) -> Vec<u8> {
        let since = said.since.to_rfc3339_opts(SecondsFormat::Secs, true);
        let state = event::Health {
            tenant_id: &self.tenant.tenant_id,
            subscription: scope.map(crate::config::ContentType::as_str),
            response: &said.response,
            health: &said.state,
            since: Some(&since),
            count: Some(said.count.into()),
            hint: Some(&said.hint),
            tenant: &self.tenant.name,
            labels: &self.tenant.labels,
        };
        let mut datagram = Vec::new();
        event::health(&self.work.settings.wazuh.location, &state, &mut datagram);
        datagram
    }
}
