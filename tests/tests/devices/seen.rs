// SPDX-License-Identifier: Apache-2.0

//! What hangs on a device, as the kernel tells it.

use anyhow::Result;
use aya::programs::{SchedClassifier, TcAttachType};
use futures_util::TryStreamExt as _;
use rtnetlink::packet_route::tc::{TcAttribute, TcFilterBpfOption, TcOption};

use crate::attach::has_tcx;

const SIDES: [TcAttachType; 2] = [TcAttachType::Ingress, TcAttachType::Egress];

/// What hangs on the device `veth1`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The names of the programs, in order: ingress and egress.
    pub(crate) tcx: [Vec<String>; 2],
    pub(crate) clsact: [Vec<String>; 2],
    pub(crate) has_clsact: bool,
}

pub(crate) async fn seen() -> Result<Seen> {
    let (connection, handle, _) = rtnetlink::new_connection()?;
    let task = tokio::spawn(connection);
    let mut links = handle.link().get().match_name("veth1".to_owned()).execute();
    let index = links.try_next().await?.expect("veth1").header.index.cast_signed();
    let mut seen = Seen::default();
    let disciplines: Vec<_> = handle.qdisc().get().execute().try_collect().await?;
    let clsact = TcAttribute::Kind("clsact".to_owned());
    seen.has_clsact = disciplines
        .iter()
        .any(|found| found.header.index == index && found.attributes.contains(&clsact));
    let mut filters = handle.traffic_filter(index);
    let requests = [filters.get().ingress(), filters.get().egress()];
    for (names, request) in seen.clsact.iter_mut().zip(requests) {
        let filters: Vec<_> = request.execute().try_collect().await?;
        let attributes = filters.into_iter().flat_map(|filter| filter.attributes);
        let options = attributes
            .filter_map(|attribute| match attribute {
                TcAttribute::Options(options) => Some(options),
                _ => None,
            })
            .flatten();
        names.extend(options.filter_map(|option| match option {
            TcOption::Bpf(TcFilterBpfOption::ProgName(name)) => Some(name),
            _ => None,
        }));
    }
    for (names, side) in seen.tcx.iter_mut().zip(SIDES).filter(|_| has_tcx()) {
        let (_, programs) = SchedClassifier::query_tcx("veth1", side)?;
        // The kernel keeps fifteen bytes of a name.
        names.extend(programs.iter().filter_map(|p| p.name_as_str().map(str::to_owned)));
    }
    task.abort();
    Ok(seen)
}
