//! The certificate that copies of a database show: what it should be, and that they take up a new one without a restart.

use futures::future::join_all;
use hz_crds::certificates::CA_CRT;
use hz_crds::postgres::patroni::PORT;
use hz_crds::postgres::tls::{self, Encryption, OFFERED, Tls};
use hz_crds::postgres::{Inputs, PostgresInstance};
use hz_crds::shared::PodSeen;
use kube::ResourceExt;

use super::{Context, copies};
use crate::engine::certificates::{der, ends};
use crate::engine::kinds::named;
use crate::probes::{Front, Silent, Trust};

/// Pods of an instance that were made before there was TLS.
fn from_before(namespace: &str, name: &str, ctx: &Context) -> Vec<String> {
    let pods = ctx.engine.world.select(named("Pod"), namespace, |_, seen| {
        seen.owner.as_ref().is_some_and(|owner| owner.kind == "PostgresInstance" && owner.name == name)
            && seen.facts["metadata"]["labels"][OFFERED].is_null()
    });
    let mut names: Vec<String> = pods.into_iter().map(|(name, _)| name).collect();
    names.sort();
    names
}

/// The instance as its copies can be now: while one of them was made before there was TLS, nobody may insist on it.
pub fn as_it_can_be(instance: &PostgresInstance, ctx: &Context) -> PostgresInstance {
    match from_before(&instance.namespace().unwrap_or_default(), &instance.name_any(), ctx).is_empty() {
        true => instance.clone(),
        false => tls::introducing(instance),
    }
}

/// Whom to take the servers of an instance for, by the certificate that is kept.
pub fn trust(instance: &PostgresInstance, authority: &str, ctx: &Context) -> Trust {
    Trust {
        host: ctx.platform.get().host(&instance.name_any(), &instance.namespace().unwrap_or_default()),
        authority: authority.to_owned(),
        required: instance.spec.tls != Tls::Introduced,
    }
}

/// [`trust`] for those who have not looked the certificate up.
pub async fn kept(instance: &PostgresInstance, ctx: &Context) -> Option<Trust> {
    let (namespace, secret) = (instance.namespace()?, tls::secret(&instance.name_any()));
    let secret = ctx.engine.secrets.get(&namespace, &secret).await.ok()??;
    Some(trust(&as_it_can_be(instance, ctx), secret.data.get(CA_CRT)?, ctx))
}

/// Looks what every copy shows. One that shows another certificate than the one that is kept is told to read its files
/// again; the kubelet may need a minute or two to bring them, so it is told until it shows the right one.
pub async fn look(instance: &PostgresInstance, inputs: &Inputs, pods: &[PodSeen], ctx: &Context) -> Encryption {
    let (namespace, name) = (instance.namespace().unwrap_or_default(), instance.name_any());
    let before = from_before(&namespace, &name, ctx);
    if !before.is_empty() {
        return Encryption::Introducing(before);
    }
    let Ok(pair) = inputs.certificates.get(&tls::certificate(instance, &ctx.platform.get())) else {
        return Encryption::NotSeen;
    };
    let (Some(kept), Some(until)) = (der(&pair.tls_crt), ends(&pair.tls_crt)) else { return Encryption::NotSeen };
    let trust = trust(instance, &pair.ca_crt, ctx);
    let fronts = pods.iter().filter(|pod| pod.ready).filter_map(|pod| {
        let address = ctx.pod_address(&namespace, &pod.name)?;
        Some((pod.name.as_str(), Front { address, port: PORT, trust: trust.clone() }))
    });
    let looks = fronts.map(|(pod, front)| async move { (pod, ctx.probes.shown(&front).await) });
    let seen = join_all(looks).await;
    let (mut others, mut unreached) = (Vec::new(), Vec::new());
    for (pod, shown) in &seen {
        match shown {
            Ok(shown) if *shown == kept => {}
            Ok(_) => others.push((*pod, "it is an older one".to_owned())),
            Err(Silent::Refused(why)) => others.push((*pod, why.clone())),
            Err(silent) => unreached.push(format!("{pod}: {silent}")),
        }
    }
    for (pod, why) in &others {
        tracing::info!(namespace, pod, why, "a copy is told to read its certificate again");
        let Some(rest) = copies::rest(&namespace, &name, pod, inputs, ctx) else { continue };
        if let Err(silent) = ctx.probes.reload(&rest).await {
            tracing::warn!(namespace, pod, %silent, "it could not be told");
        }
    }
    let secret = tls::secret(&name);
    match (others.first(), unreached.first(), seen.is_empty()) {
        (Some((pod, why)), _, _) => Encryption::Other(format!(
            "{pod} does not show the certificate in Secret {secret} ({why}); it is told to read it again"
        )),
        (None, Some(why), _) => Encryption::Unreached(why.clone()),
        (None, None, true) => Encryption::NotSeen,
        (None, None, false) => Encryption::Kept(until),
    }
}
