//! Writes the Rust text of one service: endpoint trait, gateway, dispatch table. Thin on purpose: every line that decides
//! something is in `palisade_rpc::codegen`.

use std::collections::BTreeSet;
use std::fmt::Write;

use prost_build::{Method, Service, ServiceGenerator};

/// Services with this ending become gateways.
const SUFFIX: &str = "Gateway";

/// The return type that makes a method a tell.
const TOLD: &str = ".palisade.rpc.v1.Told";

/// What a gateway has besides its methods.
const RESERVED: &[&str] = &["serve", "within", "within_call", "ready", "refusals", "raw", "from_raw", "clone", "fmt"];

/// Writes gateways itself and hands other services to tonic.
pub(crate) struct GatewayGenerator {
    rpc: String,
    descriptors: String,
    /// Full names of control methods.
    control: BTreeSet<String>,
    plain: Box<dyn ServiceGenerator>,
}

impl GatewayGenerator {
    pub(crate) fn new(rpc: String, descriptors: String, control: BTreeSet<String>) -> GatewayGenerator {
        GatewayGenerator { rpc, descriptors, control, plain: tonic_prost_build::configure().service_generator() }
    }
}

impl ServiceGenerator for GatewayGenerator {
    fn generate(&mut self, service: Service, out: &mut String) {
        if !service.name.ends_with(SUFFIX) {
            self.plain.generate(service, out);
            return;
        }
        if let Some(why) = refused(&service) {
            let _ = writeln!(out, "compile_error!({why:?});");
            return;
        }
        let text = self.gateway(&service);
        out.push_str(&text);
    }

    fn finalize(&mut self, out: &mut String) {
        self.plain.finalize(out);
    }

    fn finalize_package(&mut self, package: &str, out: &mut String) {
        self.plain.finalize_package(package, out);
    }
}

/// Why a service cannot be a gateway, in words that its author can act on.
fn refused(service: &Service) -> Option<String> {
    let gateway = &service.proto_name;
    if gateway == SUFFIX {
        return Some(format!("{gateway}: a gateway needs a name before '{SUFFIX}'"));
    }
    service.methods.iter().find_map(|Method { name, proto_name, client_streaming, server_streaming, .. }| {
        if *client_streaming || *server_streaming {
            let why = "a gateway's methods do not stream; name the service without 'Gateway'";
            return Some(format!("{gateway}.{proto_name}: {why}"));
        }
        RESERVED.contains(&name.as_str()).then(|| {
            format!("{gateway}.{proto_name}: every gateway has a function `{name}` already; name the method otherwise")
        })
    })
}

impl GatewayGenerator {
    fn gateway(&self, service: &Service) -> String {
        let rpc = &self.rpc;
        let gateway = &service.name;
        let endpoint = format!("{}Endpoint", gateway.strip_suffix(SUFFIX).expect("checked by generate"));
        let interface = format!("{}.{}", service.package, service.proto_name);
        let descriptors = &self.descriptors;

        let mut steps = String::new();
        let mut calls = String::new();
        let mut table = String::new();
        let mut infos = String::new();
        for (index, method) in service.methods.iter().enumerate() {
            let Method { name, proto_name, input_type, output_type, .. } = method;
            let tell = method.output_proto_type == TOLD;
            let (kind, form) = if tell { ("Tell", "tell") } else { ("Ask", "ask") };
            let comments = doc(method, "    ");
            let control = self.control.contains(&format!("{interface}.{proto_name}"));
            let lane = if control { "Control" } else { "Work" };
            let _ = writeln!(
                infos,
                "        {rpc}::MethodInfo {{ name: \"{proto_name}\", kind: {rpc}::MethodKind::{kind}, \
                 lane: {rpc}::Lane::{lane} }},"
            );
            let _ = writeln!(
                table,
                "            {rpc}::codegen::{form}::<E, _{}>(<E as {endpoint}>::{name}),",
                if tell { "" } else { ", _" }
            );
            if tell {
                let _ = write!(
                    steps,
                    "{comments}    fn {name}(&mut self, cx: &mut {rpc}::Context<Self>, request: {input_type});\n\n"
                );
                let _ = write!(
                    calls,
                    "{comments}    ///\n    /// A tell: returns once the message is on its way. A refusal by the receiver comes back through\n    \
                     /// [`Self::refusals`].\n    \
                     pub fn {name}(&self, request: {input_type}) -> Result<(), {rpc}::RpcError> {{\n        \
                     self.raw.tell({index}, request)\n    }}\n\n"
                );
            } else {
                let _ = write!(
                    steps,
                    "{comments}    fn {name}(&mut self, cx: &mut {rpc}::Context<Self>, request: {input_type}) \
                     -> {rpc}::Answer<{output_type}>;\n\n"
                );
                let _ = write!(
                    calls,
                    "{comments}    ///\n    /// An ask. Dropping the future cancels the call.\n    \
                     pub async fn {name}(&self, request: {input_type}) -> Result<{output_type}, {rpc}::RpcError> {{\n        \
                     self.raw.ask({index}, request).await\n    }}\n\n"
                );
            }
        }

        let service_doc = lines(&service.comments.leading, "");
        format!(
            r#"{service_doc}///
/// What an endpoint implements to be reached through [`{gateway}`]. Each method is one synchronous step on the state.
pub trait {endpoint}: {rpc}::RpcEndpoint {{
{steps}}}

{service_doc}///
/// The typed proxy, local or remote; cheap to clone. See [`{endpoint}`] for the other side.
#[derive(Clone, Debug)]
pub struct {gateway} {{
    raw: {rpc}::RawGateway,
}}

impl {gateway} {{
    /// Name and kind of every method, in the order of the `.proto` file.
    pub const METHODS: &'static [{rpc}::MethodInfo] = &[
{infos}    ];

    /// The dispatch table, for an endpoint's builder.
    pub fn serve<E: {endpoint}>() -> {rpc}::Served<E> {{
        {rpc}::codegen::served(<Self as {rpc}::RpcGateway>::INTERFACE, vec![
{table}        ])
    }}

    /// The same gateway with another time limit for its asks.
    #[must_use]
    pub fn within(&self, limit: ::std::time::Duration) -> Self {{
        Self {{ raw: self.raw.within(limit) }}
    }}

    /// The same gateway for asks on behalf of the call that `cx` handles: none waits longer than its caller does.
    #[must_use]
    pub fn within_call<E: {rpc}::RpcEndpoint>(&self, cx: &{rpc}::Context<E>) -> Self {{
        Self {{ raw: self.raw.within_call(cx) }}
    }}

    /// Resolves when there is room for a tell: the endpoint has taken enough of the earlier ones.
    pub async fn ready(&self) -> Result<(), {rpc}::RpcError> {{
        self.raw.ready().await
    }}

    /// The tells of this gateway and its clones that were not handled.
    pub fn refusals(&self) -> &{rpc}::Refusals {{
        self.raw.refusals()
    }}

{calls}}}

impl {rpc}::RpcGateway for {gateway} {{
    const INTERFACE: &'static {rpc}::InterfaceInfo = &{rpc}::InterfaceInfo {{
        name: "{interface}",
        methods: Self::METHODS,
        descriptors: include_bytes!(concat!(env!("OUT_DIR"), "/{descriptors}")),
    }};

    fn from_raw(raw: {rpc}::RawGateway) -> Self {{
        Self {{ raw }}
    }}

    fn raw(&self) -> &{rpc}::RawGateway {{
        &self.raw
    }}
}}
"#
        )
    }
}

/// The method's comment from the `.proto` file, or its name, so that no public item is without words.
fn doc(method: &Method, indent: &str) -> String {
    if method.comments.leading.is_empty() {
        return format!("{indent}/// `{}`.\n", method.proto_name);
    }
    lines(&method.comments.leading, indent)
}

fn lines(comments: &[String], indent: &str) -> String {
    comments.iter().map(|line| format!("{indent}///{}\n", line.replace("[", "\\[").replace("]", "\\]"))).collect()
}
