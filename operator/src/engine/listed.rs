//! Nobody acts before everything of ours has been seen once: what is not seen yet must not be taken for what is not there.

use std::collections::HashSet;

use tokio::sync::watch;

/// Kinds of ours whose first list has not come yet.
#[derive(Default)]
pub struct Listed(watch::Sender<HashSet<&'static str>>);

impl Listed {
    /// A kind is going to be followed.
    pub fn expect(&self, kind: &'static str) {
        self.0.send_modify(|missing| {
            missing.insert(kind);
        });
    }

    /// Everything of a kind is known.
    pub fn note(&self, kind: &str) {
        self.0.send_if_modified(|missing| missing.remove(kind));
    }

    /// Waits until everything of every kind is known.
    pub async fn all(&self) {
        // The sender lives as long as we do.
        let _ = self.0.subscribe().wait_for(HashSet::is_empty).await;
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn the_last_kind_opens_the_way_and_a_list_that_comes_again_changes_nothing() {
        let listed = Listed::default();
        listed.expect("PostgresInstance");
        listed.expect("DataOperation");
        assert_eq!(listed.all().now_or_never(), None);
        listed.note("PostgresInstance");
        listed.note("PostgresInstance");
        assert_eq!(listed.all().now_or_never(), None);
        listed.note("DataOperation");
        assert_eq!(listed.all().now_or_never(), Some(()));
        listed.note("DataOperation");
        assert_eq!(listed.all().now_or_never(), Some(()));
    }
}
