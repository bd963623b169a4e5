// SPDX-License-Identifier: Apache-2.0

//! The rules, by which packets can be told apart that take different ways.

/// Which rule a packet was judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// It is no IP packet, or none that may be touched.
    Untouchable,
    /// It was addressed to a group, or to somebody else.
    ForSomebodyElse,
    /// It is to nobody that is served.
    NotOurs,
    /// A first packet opened a flow to a backend.
    Opened,
    /// The same with another source port, as its own was taken.
    OpenedWithAnotherPort,
    /// The same, and a connection that has ended gave its replies up for it.
    OpenedInPlaceOfAnother,
    /// A first packet opened a flow to the client's own pod.
    OpenedHairpin,
    /// There was nobody to stand between a pod and itself.
    NoHairpin,
    /// A first packet to an endpoint itself opened a flow.
    OpenedDirect,
    /// The same with another source port.
    OpenedDirectWithAnotherPort,
    /// A packet of a client's flow.
    Request,
    /// A packet of a flow whose backend is the client's own pod.
    HairpinRequest,
    /// A packet of a direct connection, untouched.
    DirectRequest,
    /// A reply in a flow.
    Reply,
    /// A reply in a flow whose backend is the client's own pod.
    HairpinReply,
    /// A reply in a direct connection, untouched.
    DirectReply,
    /// A reply that belongs to no flow.
    NobodysReply,
    /// A first fragment was translated.
    FirstFragment,
    /// A first fragment of SCTP could not get other ports.
    SctpFragmentDropped,
    /// A later fragment followed its first.
    LaterFragment,
    /// A later fragment of something that is not translated.
    LaterFragmentPassed,
    /// A later fragment to a VIP without a first.
    LaterFragmentDropped,
    /// A Service without endpoints.
    RefusedNoEndpoints,
    /// A port that a VIP does not have.
    RefusedNoPort,
    /// A protocol that a VIP does not have.
    RefusedProtocol,
    /// A segment amid an unknown connection.
    RefusedStray,
    /// The same, passed.
    PassedStray,
    /// A RST amid an unknown connection.
    PassedReset,
    /// A Local policy, and no endpoint on this node.
    DroppedLocal,
    /// An ICMP error about a request.
    ErrorAboutRequest,
    /// An ICMP error about a reply.
    ErrorAboutReply,
    /// An ICMP error in a hairpin.
    ErrorInHairpin,
    /// An ICMP error about nothing that is known.
    ErrorPassed,
    /// A packet that leaves the node and may.
    Leaves,
    /// A segment amid a connection with an address of a Service CIDR, which may be somebody's
    /// outside.
    LeavesAmidConnection,
    /// A packet to a VIP that was about to leave the node.
    GuardRefused,
    /// Another packet to a Service CIDR that was about to leave the node.
    GuardDropped,
}

impl Rule {
    /// All of them.
    pub const ALL: [Self; 37] = [
        Self::Untouchable,
        Self::ForSomebodyElse,
        Self::NotOurs,
        Self::Opened,
        Self::OpenedWithAnotherPort,
        Self::OpenedInPlaceOfAnother,
        Self::OpenedHairpin,
        Self::NoHairpin,
        Self::OpenedDirect,
        Self::OpenedDirectWithAnotherPort,
        Self::Request,
        Self::HairpinRequest,
        Self::DirectRequest,
        Self::Reply,
        Self::HairpinReply,
        Self::DirectReply,
        Self::NobodysReply,
        Self::FirstFragment,
        Self::SctpFragmentDropped,
        Self::LaterFragment,
        Self::LaterFragmentPassed,
        Self::LaterFragmentDropped,
        Self::RefusedNoEndpoints,
        Self::RefusedNoPort,
        Self::RefusedProtocol,
        Self::RefusedStray,
        Self::PassedStray,
        Self::PassedReset,
        Self::DroppedLocal,
        Self::ErrorAboutRequest,
        Self::ErrorAboutReply,
        Self::ErrorInHairpin,
        Self::ErrorPassed,
        Self::Leaves,
        Self::LeavesAmidConnection,
        Self::GuardRefused,
        Self::GuardDropped,
    ];
}
