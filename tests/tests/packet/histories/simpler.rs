// SPDX-License-Identifier: Apache-2.0

//! Steps that say less than another.

use super::step::{Change, Dress, Receiver, Sent, Step};

/// Simpler steps in the place of one, those that are most worth a try last.
pub(super) fn simpler(step: &Step) -> Vec<Step> {
    match step {
        Step::Send(sent) => simpler_packets(sent).into_iter().map(Step::Send).collect(),
        Step::Serve { service, protocol, endpoints, local } => {
            let serve = |endpoints: Vec<u8>, local| Step::Serve {
                service: *service,
                protocol: *protocol,
                endpoints,
                local,
            };
            let mut fewer: Vec<_> = (0..endpoints.len())
                .map(|number| {
                    let mut endpoints = endpoints.clone();
                    let _: u8 = endpoints.remove(number);
                    serve(endpoints, local.clone())
                })
                .collect();
            if local.is_some() {
                fewer.push(serve(endpoints.clone(), None));
            }
            fewer
        }
        _ => Vec::new(),
    }
}

fn simpler_packets(sent: &Sent) -> Vec<Sent> {
    let mut packets: Vec<_> = (0..sent.changes.len())
        .map(|number| {
            let mut sent = sent.clone();
            let _: Change = sent.changes.remove(number);
            sent
        })
        .collect();
    let dress = sent.dress;
    let plainer: [Dress; 9] = [
        Dress { payload: dress.payload / 2, ..dress },
        Dress { payload: 0, ..dress },
        Dress { label: 0, ..dress },
        Dress { options: false, ..dress },
        Dress { vlan: false, authentication: false, source_route: false, ..dress },
        Dress { no_checksum: false, ..dress },
        Dress { cut: None, ..dress },
        Dress { to: Receiver::Node, ..dress },
        Dress::default(),
    ];
    let plainer = plainer.into_iter().filter(|plainer| *plainer != dress);
    packets.extend(plainer.map(|dress| Sent { dress, ..sent.clone() }));
    if sent.error.is_some() {
        packets.push(Sent { error: None, ..sent.clone() });
    }
    if sent.at.is_some() {
        packets.push(Sent { at: None, ..sent.clone() });
    }
    packets
}
