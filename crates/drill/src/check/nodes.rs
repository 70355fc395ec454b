//! Every node tells the same story.

use super::Verdict;
use crate::ledger::Ledger;

pub(super) fn check(ledgers: &[Ledger]) -> Verdict {
    let mut verdict = Verdict::new("differing", "Every node has the same bytes and digests at the same position");
    for pair in ledgers.windows(2) {
        let (a, b) = (&pair[0], &pair[1]);
        verdict.examined += a.entries.len() as u64;
        let differs = a.entries.iter().zip(&b.entries).find(|(a, b)| a != b);
        if let Some((here, there)) = differs {
            verdict.broken(|| {
                format!("{} and {} differ at position {}: {here:?} and {there:?}", a.site, b.site, here.sequence)
            });
        }
        if a.entries.len() != b.entries.len() {
            let (here, there) = (a.entries.len(), b.entries.len());
            verdict.broken(|| format!("{} has {here} records and {} has {there}", a.site, b.site));
        }
        if a.digests != b.digests {
            verdict.broken(|| format!("the digests of {} and {} differ", a.site, b.site));
        }
    }
    verdict
}
