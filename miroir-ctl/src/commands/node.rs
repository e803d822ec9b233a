//! `node`: what an operator decides about one node.

use http::Method;
use miroir_api::admin::DiscardedView;

use crate::cli::Node;
use crate::client::{Client, encode};
use crate::error::{Code, CtlError};
use crate::output::Output;

pub(crate) async fn run(
    node: Node,
    client: &Client,
    output: &mut Output,
) -> Result<Code, CtlError> {
    let Node::DiscardDisk { id, yes } = node;
    if !yes {
        return Err(CtlError::usage(
            format!("every index on the disk of node {id} would be deleted"),
            "give --yes if the disk that is mounted there now may be thrown away; otherwise mount \
             the node's own disk again",
        ));
    }
    let path = format!("/_miroir/nodes/{}/discard-disk", encode(&id));
    let answer = client.ask(Method::POST, &path, None).await?;
    if output.json() {
        output.raw(&answer);
        return Ok(Code::Done);
    }
    let DiscardedView { node, life } = answer.read()?;
    output.line(&format!(
        "node {node} begins anew, in life {life}: it is built from its peers and read when it has \
         everything (`miroir-ctl replicas`)"
    ));
    Ok(Code::Done)
}
