//! What a user's build script gets: the text that is generated, and the words in which mistakes are refused. That the text
//! compiles and works is shown by the crates that use it, `palisade-rpc`'s own example first.

#![allow(clippy::unwrap_used)] // helpers of tests; clippy knows only the tests themselves

use std::path::Path;

use palisade_rpc_build::{Builder, CompileError};

/// Compiles `body` as `shop.proto` of the package `shop.v1`, and gives what was generated.
fn generated(body: &str) -> Result<String, CompileError> {
    let folder = tempfile::tempdir().unwrap();
    let proto = folder.path().join("shop.proto");
    let head = "syntax = \"proto3\"; package shop.v1;\n";
    let messages = "message Order { bytes body = 1; map<string, uint32> pieces = 2; } message Nothing {}\n";
    std::fs::write(&proto, [head, body, messages].concat()).unwrap();
    Builder::new().out_dir(folder.path()).compile(&[&proto], &[folder.path()])?;
    let descriptors = std::fs::metadata(folder.path().join("palisade_rpc_descriptors.bin")).unwrap();
    assert!(descriptors.len() > 0);
    Ok(read(folder.path()))
}

fn read(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("shop.v1.rs")).unwrap()
}

/// However it is laid out.
fn bare(text: &str) -> String {
    text.split_whitespace().collect::<String>().replace(",)", ")")
}

#[test]
fn a_gateway_gets_a_trait_a_proxy_and_a_table_without_any_include_of_ours() {
    let text = generated(
        "import \"palisade/rpc/v1/told.proto\"; import \"palisade/rpc/v1/options.proto\";
         // Sells.
         service ShopGateway {
           // Sells one.
           rpc Sell(Order) returns (Nothing);
           rpc Deliver(Order) returns (palisade.rpc.v1.Told);
           rpc Alive(Nothing) returns (Nothing) { option (palisade.rpc.v1.control) = true; }
           rpc NotControl(Nothing) returns (Nothing) { option (palisade.rpc.v1.control) = false; }
         }
         service Plain { rpc Stream(stream Order) returns (stream Order); }",
    )
    .unwrap();
    for expected in [
        "pub trait ShopEndpoint: ::palisade_rpc::RpcEndpoint",
        "fn sell(&mut self, cx: &mut ::palisade_rpc::Context<Self>, request: Order) -> ::palisade_rpc::Answer<Nothing>;",
        "fn deliver(&mut self, cx: &mut ::palisade_rpc::Context<Self>, request: Order);",
        "pub async fn sell(&self, request: Order) -> Result<Nothing, ::palisade_rpc::RpcError>",
        "pub fn deliver(&self, request: Order) -> Result<(), ::palisade_rpc::RpcError>",
        "name: \"Sell\", kind: ::palisade_rpc::MethodKind::Ask, lane: ::palisade_rpc::Lane::Work",
        "name: \"Deliver\", kind: ::palisade_rpc::MethodKind::Tell, lane: ::palisade_rpc::Lane::Work",
        "name: \"Alive\", kind: ::palisade_rpc::MethodKind::Ask, lane: ::palisade_rpc::Lane::Control",
        "name: \"NotControl\", kind: ::palisade_rpc::MethodKind::Ask, lane: ::palisade_rpc::Lane::Work",
        "/// Sells one.",
        "pub mod plain_client",
    ] {
        assert!(bare(&text).contains(&bare(expected)), "no `{expected}` in:\n{text}");
    }
}

#[test]
fn what_cannot_be_a_gateway_is_refused_in_words_that_name_it() {
    let refused = [
        (
            "service ShopGateway { rpc Watch(Order) returns (stream Order); }",
            "ShopGateway.Watch: a gateway's methods do not stream",
        ),
        (
            "service ShopGateway { rpc Within(Order) returns (Nothing); }",
            "ShopGateway.Within: every gateway has a function `within`",
        ),
        ("service Gateway { rpc Sell(Order) returns (Nothing); }", "Gateway: a gateway needs a name before 'Gateway'"),
    ];
    for (body, why) in refused {
        let text = generated(body).unwrap();
        assert!(text.contains("compile_error!") && text.contains(why), "{text}");
    }
}

#[test]
fn a_mistake_in_the_file_is_told_with_its_place() {
    let error = generated("service ShopGateway { rpc Sell(Missing) returns (Nothing); }").unwrap_err().to_string();
    assert!(error.contains("Missing") && error.contains("shop.proto"), "{error}");
    let error = generated("import \"palisade/rpc/v1/nothing.proto\";").unwrap_err().to_string();
    assert!(error.contains("palisade/rpc/v1/nothing.proto"), "{error}");
}
