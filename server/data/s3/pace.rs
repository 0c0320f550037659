//! Holds each request back until its turn has come.

use std::sync::Arc;

use aws_smithy_runtime_api::client::connector_metadata::ConnectorMetadata;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;

use crate::data::Manners;

/// A client whose every request, also one that is sent again, waits before it takes a connection:
/// a pause later would look like a transfer that hangs.
#[derive(Debug)]
pub(super) struct Paced {
    pub client: SharedHttpClient,
    pub manners: Arc<dyn Manners>,
}

impl HttpClient for Paced {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(Connector {
            connector: self.client.http_connector(settings, components),
            manners: Arc::clone(&self.manners),
        })
    }

    fn connector_metadata(&self) -> Option<ConnectorMetadata> {
        self.client.connector_metadata()
    }
}

#[derive(Debug)]
struct Connector {
    connector: SharedHttpConnector,
    manners: Arc<dyn Manners>,
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (connector, manners) = (self.connector.clone(), Arc::clone(&self.manners));
        HttpConnectorFuture::new(async move {
            manners.request().await;
            connector.call(request).await
        })
    }
}
