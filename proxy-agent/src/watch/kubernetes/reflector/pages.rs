// SPDX-License-Identifier: Apache-2.0
//! Lists in pages, for where the API has no streaming lists.

use tokio::{task, time::timeout};

use super::{Reflector, Stop};
use crate::watch::{
    convert::Convert,
    kubernetes::{
        decode::{self, Page},
        failure::Failure,
        known::Item,
        selection::Ask,
        version::Version,
    },
};

impl<K: Convert> Reflector<K> {
    /// A list in pages.
    pub(super) async fn pages(&mut self, ask: &Ask) -> Result<(), Stop> {
        let limit = self.timing.list;
        let listed = timeout(limit, self.all_pages(ask)).await;
        let (items, version) = listed.unwrap_or(Err(Failure::NoAnswer(limit)))?;
        self.listed(items, version).await
    }

    async fn all_pages(&self, ask: &Ask) -> Result<(Vec<Item>, Version), Failure> {
        let (mut items, mut version, mut next) = (Vec::new(), None, None);
        loop {
            let page = match self.page(self.selection.page(ask, next.as_deref())).await {
                // The rest of the list is not to be had any more; all of it in one piece is.
                Err(Failure::Expired(_)) if next.is_some() => {
                    items.clear();
                    version = None;
                    self.page(self.selection.whole(ask)).await?
                }
                page => page?,
            };
            items.extend(page.items);
            version = version.or(page.version);
            next = page.next;
            if next.is_none() {
                break;
            }
        }
        let version = version.ok_or_else(|| Failure::Garbled("a list without version".into()))?;
        Ok((items, version))
    }

    async fn page(&self, path: String) -> Result<Page, Failure> {
        let mut answer = self.connection.get(&path).await?;
        let mut text = Vec::new();
        let limit = self.timing.answer;
        while let Some(part) =
            timeout(limit, answer.next()).await.unwrap_or(Err(Failure::NoAnswer(limit)))?
        {
            text.extend_from_slice(&part);
        }
        // A page may be as large as the cluster, and this thread keeps the tables too.
        let page = task::spawn_blocking(move || decode::page::<K>(&text)).await;
        page.unwrap_or_else(|error| Err(Failure::Garbled(error.to_string())))
    }
}
