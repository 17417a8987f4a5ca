//! One row for each method of each fenced gateway: of these tests and of `proto/palisade/runtime/v1`. A method without a row does
//! not compile, nor does a row without a method; a gateway without rows fails `every_gateway_has_rows`.

use std::sync::Arc;

use palisade_fence::LeaderSource;
use palisade_rpc::{Answer, Context, EndpointBuilder, InterfaceInfo, MethodInfo, RpcEndpoint, RpcGateway, RpcService};
use prost::Message;

use crate::counter::Probe;
use crate::{proto, runtime_proto};

/// Gateways that keep no fence, each with its reason.
pub(crate) const UNFENCED: &[(&str, &str)] =
    &[("palisade.runtime.v1.IntrospectionGateway", "it only looks: counters of a process, whoever leads")];

/// An endpoint that serves every gateway: it notes that a method ran, and answers with an empty message.
pub(crate) struct Everything(pub(crate) Arc<Probe>);

impl RpcEndpoint for Everything {}

/// The handler of one row.
macro_rules! handler {
    ($proto:ident ask $method:ident $request:ident $reply:ident) => {
        fn $method(&mut self, _: &mut Context<Self>, _: $proto::$request) -> Answer<$proto::$reply> {
            self.0.enter(stringify!($method));
            Answer::ready($proto::$reply::default())
        }
    };
    ($proto:ident tell $method:ident $request:ident Told) => {
        fn $method(&mut self, _: &mut Context<Self>, _: $proto::$request) {
            self.0.enter(stringify!($method));
        }
    };
}

macro_rules! rows {
    ($($proto:ident $gateway:ident $endpoint:ident {
        $($name:ident $kind:ident $method:ident($request:ident) $reply:ident)*
    })*) => {
        $(impl $proto::$endpoint for Everything {
            $(handler!($proto $kind $method $request $reply);)*
        })*

        $(const _: () = same(proto_methods::<$proto::$gateway>(), &[$(stringify!($name)),*]);)*

        /// The fenced gateways.
        pub(crate) const FENCED: &[&InterfaceInfo] = &[$(<$proto::$gateway as RpcGateway>::INTERFACE),*];

        /// Lets the endpoint serve all of them.
        pub(crate) fn serving(endpoint: EndpointBuilder<Everything>) -> EndpointBuilder<Everything> {
            endpoint$(.serves($proto::$gateway::serve()))*
        }

        /// Says that the process would serve all of them if it led.
        pub(crate) fn declare(service: &RpcService, id: &str, source: &Arc<impl LeaderSource + 'static>) {
            $(service.declare::<$proto::$gateway>(id, Some(source.clone()));)*
        }
    };
}

const fn proto_methods<G: RpcGateway>() -> &'static [MethodInfo] {
    G::INTERFACE.methods
}

/// Stops the build if the rows are not the methods.
const fn same(methods: &[MethodInfo], rows: &[&str]) {
    assert!(methods.len() == rows.len(), "a method has no row, or a row no method");
    let mut at = 0;
    while at < rows.len() {
        let (method, row) = (methods[at].name.as_bytes(), rows[at].as_bytes());
        assert!(method.len() == row.len(), "the rows are not the methods in the order of the file");
        let mut byte = 0;
        while byte < row.len() {
            assert!(method[byte] == row[byte], "the rows are not the methods in the order of the file");
            byte += 1;
        }
        at += 1;
    }
}

rows! {
    proto CounterGateway CounterEndpoint {
        Add ask add(AddRequest) AddReply
        Note tell note(AddRequest) Told
        Read ask read(ReadRequest) AddReply
        AddLater ask add_later(AddRequest) AddReply
        Blob ask blob(BlobRequest) BlobReply
        Echo ask echo(AddRequest) AddRequest
        Refuse ask refuse(ReadRequest) AddReply
        Beat ask beat(ReadRequest) AddReply
        BeatTold tell beat_told(ReadRequest) Told
        Relay ask relay(AddRequest) AddReply
        Panic ask panic(ReadRequest) AddReply
    }
    proto OtherGateway OtherEndpoint {
        Nothing tell nothing(ReadRequest) Told
    }
    proto OfficeGateway OfficeEndpoint {
        Register ask register(RegisterRequest) RegisterReply
        Beat ask beat(BeatRequest) BeatReply
    }
    runtime_proto DispatcherGateway DispatcherEndpoint {
        Submit ask submit(SubmitRequest) SubmitReply
        List ask list(ListRequest) ListReply
        Status ask status(JobRequest) JobStatus
        Result ask result(JobRequest) ResultReply
        FetchResult ask fetch_result(FetchResultRequest) FetchResultReply
        Cancel ask cancel(JobRequest) JobStatus
    }
    runtime_proto ResourceManagerGateway ResourceManagerEndpoint {
        RegisterTaskExecutor ask register_task_executor(RegisterTaskExecutorRequest) RegisterTaskExecutorReply
        ExecutorHeartbeat ask executor_heartbeat(ExecutorHeartbeatRequest) ExecutorHeartbeatReply
        DisconnectTaskExecutor tell disconnect_task_executor(DisconnectTaskExecutorRequest) Told
        Overview ask overview(OverviewRequest) OverviewReply
    }
    runtime_proto JobMasterGateway JobMasterEndpoint {
        UpdateTaskState ask update_task_state(UpdateTaskStateRequest) Done
        AcknowledgeCheckpoint ask acknowledge_checkpoint(AcknowledgeCheckpointRequest) Done
        DeclineCheckpoint ask decline_checkpoint(DeclineCheckpointRequest) Done
        TasksHeartbeat ask tasks_heartbeat(TasksHeartbeatRequest) TasksHeartbeatReply
    }
    runtime_proto TaskExecutorGateway TaskExecutorEndpoint {
        RequestSlot ask request_slot(RequestSlotRequest) RequestSlotReply
        FreeSlot ask free_slot(FreeSlotRequest) Done
        SubmitTask ask submit_task(SubmitTaskRequest) Done
        CancelTasks ask cancel_tasks(CancelTasksRequest) Done
        TriggerCheckpoint ask trigger_checkpoint(TriggerCheckpointRequest) Done
        ConfirmCheckpoint ask confirm_checkpoint(ConfirmCheckpointRequest) Done
        LeaderHeartbeat ask leader_heartbeat(LeaderHeartbeatRequest) LeaderHeartbeatReply
    }
}

#[test]
fn every_gateway_has_rows() {
    let mut gateways = 0;
    for interface in [FENCED[0], *FENCED.last().unwrap()] {
        // The descriptors hold every file that was compiled with it: all of these tests, all of the runtime.
        let files = prost_types::FileDescriptorSet::decode(interface.descriptors).unwrap().file;
        for (package, service) in files.iter().flat_map(|file| file.service.iter().map(|it| (file.package(), it))) {
            let name = format!("{package}.{}", service.name());
            if !name.ends_with("Gateway") {
                continue; // not this layer's: tonic serves it
            }
            let fenced = FENCED.iter().any(|fenced| fenced.name == name);
            let reason = UNFENCED.iter().find(|(unfenced, _)| *unfenced == name);
            assert!(fenced != reason.is_some(), "{name} has neither rows nor a reason to keep no fence, or both");
            gateways += 1;
        }
    }
    assert_eq!(gateways, FENCED.len() + UNFENCED.len());
}
