// SPDX-License-Identifier: Apache-2.0
//! Where the API is and who asks.

use std::{
    env,
    path::{Path, PathBuf},
};

use http::{Uri, uri::Scheme};
use kube::{
    Config,
    client::ConfigExt as _,
    config::{ExecInteractiveMode, InClusterError, Kubeconfig, KubeconfigError},
};

/// Says where the API is, to pods.
const HOST_VARIABLE: &str = "KUBERNETES_SERVICE_HOST";
/// The token of a pod's service account.
const POD_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// Where to find the address of the API and the credentials.
#[derive(Clone, Debug)]
pub struct Configuration {
    kubeconfig: Option<PathBuf>,
    master: Option<Uri>,
}

/// Why the API cannot be asked for anything.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    /// The kubeconfig cannot be used.
    #[error("cannot use the kubeconfig {}", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<KubeconfigError>,
    },
    /// The exec plugin wants to talk to somebody.
    #[error(
        "the exec plugin of the kubeconfig {} wants a terminal (interactiveMode: Always), which \
         an agent does not have", .0.display()
    )]
    Interactive(PathBuf),
    /// Nothing says where the API is.
    #[error(
        "nothing says where objects come from: give --kubeconfig or --manifests (and in a pod \
         {HOST_VARIABLE} would be set)"
    )]
    Nothing,
    /// The pod's own credentials cannot be used.
    #[error("cannot use the credentials of this pod's service account")]
    Pod(#[source] InClusterError),
    /// `--master` is not the address of a server.
    #[error("--master {0} is not the address of a server, as in https://[2001:db8::1]:6443")]
    Master(Uri),
    /// Certificates or keys cannot be used.
    #[error("cannot use the certificates for {server}")]
    Certificates {
        /// The server's address.
        server: Uri,
        /// Why.
        source: Box<kube::Error>,
    },
    /// There are no certificates where there should be some.
    #[error("the certificate authority for {server} has no certificate in it")]
    NoAuthority {
        /// The server's address.
        server: Uri,
    },
    /// The proxy cannot be used.
    #[error(
        "cannot reach {server} through the proxy-url of the kubeconfig: only http, https and \
         socks5 proxies without a password are known"
    )]
    Proxy {
        /// The server's address.
        server: Uri,
    },
}

/// What has been read of a configuration.
#[derive(Clone, Debug)]
pub(super) struct Access {
    /// Everything but the file of the token.
    pub(super) config: Config,
    /// Holds the token; read for each request, since it changes.
    pub(super) token_file: Option<PathBuf>,
}

impl Configuration {
    /// The kubeconfig, or the pod's own credentials if there is none; at this address (`master`)
    /// if it is given, whatever they say.
    #[must_use]
    pub const fn new(kubeconfig: Option<PathBuf>, master: Option<Uri>) -> Self {
        Self { kubeconfig, master }
    }

    /// Reads the files.
    ///
    /// # Errors
    ///
    /// What is wrong with them.
    pub(super) fn load(&self) -> Result<Access, ConfigurationError> {
        let mut config = match (&self.kubeconfig, &self.master) {
            (Some(path), _) => from_file(path)?,
            // The pod's token is not for everybody on the way to hear.
            (None, Some(master))
                if master.scheme() == Some(&Scheme::HTTP) || !Path::new(POD_TOKEN).exists() =>
            {
                Config::new(master.clone())
            }
            (None, None) if env::var_os(HOST_VARIABLE).is_none() => {
                return Err(ConfigurationError::Nothing);
            }
            (None, _) => Config::incluster_env().map_err(ConfigurationError::Pod)?,
        };
        if let Some(master) = &self.master {
            if master.host().is_none() || !is_server(master) {
                return Err(ConfigurationError::Master(master.clone()));
            }
            config.cluster_url = master.clone();
        }
        let server = &config.cluster_url;
        if let Some(proxy) = &config.proxy_url {
            let known = matches!(proxy.scheme_str(), Some("http" | "https" | "socks5"));
            if !known || proxy.authority().is_none_or(|named| named.as_str().contains('@')) {
                return Err(ConfigurationError::Proxy { server: server.clone() });
            }
        }
        if config.root_cert.as_ref().is_some_and(Vec::is_empty) {
            return Err(ConfigurationError::NoAuthority { server: server.clone() });
        }
        if config.auth_info.exec.is_none() {
            let source = config.rustls_client_config().err().map(Box::new);
            if let Some(source) = source {
                let server = server.clone();
                return Err(ConfigurationError::Certificates { server, source });
            }
        }
        // A token in a file has precedence, as in client-go.
        let token_file = config.auth_info.token_file.take().map(PathBuf::from);
        if token_file.is_some() {
            config.auth_info.token = None;
        }
        Ok(Access { config, token_file })
    }
}

fn from_file(path: &Path) -> Result<Config, ConfigurationError> {
    let wrong = |source| {
        let source = Box::new(source);
        ConfigurationError::Kubeconfig { path: path.to_owned(), source }
    };
    let mut written = Kubeconfig::read_from(path).map_err(wrong)?;
    for user in written.auth_infos.iter_mut().filter_map(|user| user.auth_info.as_mut()) {
        if let Some(exec) = &mut user.exec
            && exec.interactive_mode != Some(ExecInteractiveMode::Always)
        {
            exec.interactive_mode = Some(ExecInteractiveMode::Never);
        }
    }
    let proxies: Vec<_> = written
        .clusters
        .iter()
        .filter_map(|cluster| cluster.cluster.as_ref()?.proxy_url.clone())
        .collect();
    let mut config = Config::try_from(written).map_err(wrong)?;
    // Not those of the environment: they are for what reaches out of the cluster.
    config.proxy_url = config.proxy_url.filter(|found| {
        proxies.iter().any(|proxy| proxy.parse::<Uri>().is_ok_and(|proxy| proxy == *found))
    });
    let exec = config.auth_info.exec.as_ref();
    if exec.is_some_and(|exec| exec.interactive_mode == Some(ExecInteractiveMode::Always)) {
        return Err(ConfigurationError::Interactive(path.to_owned()));
    }
    Ok(config)
}

fn is_server(uri: &Uri) -> bool {
    uri.scheme() == Some(&Scheme::HTTPS) || uri.scheme() == Some(&Scheme::HTTP)
}

#[cfg(test)]
#[path = "configuration_tests.rs"]
mod tests;
