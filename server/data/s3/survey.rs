//! What a bucket is set up to do with objects, and the server's clock; nothing is written.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::types::{
    BucketVersioningStatus, ExpirationStatus, LifecycleRule, ServerSideEncryption,
};
use jiff::Timestamp;

use super::bucket;
use super::error::Failure;
use crate::config::S3Config;
use crate::data::survey::Suitability::{Doubtful, Good, Unknown};
use crate::data::{Access, Feature, Tuning};

/// S3 refuses requests whose time is off by more than a quarter of an hour.
const MUCH_SKEW: Duration = Duration::from_secs(5 * 60);

pub async fn survey(config: &S3Config, tuning: &Tuning) -> Vec<Feature> {
    // That it cannot be opened is found, and told, by whoever opens it to work with it.
    let Ok((client, false)) = bucket::open(config, Access::Probe, tuning).await else {
        return Vec::new();
    };
    let bucket = config.bucket.as_str();
    let (clock, versions, lock, rules, encryption) = tokio::join!(
        clock(&client, bucket),
        versions(&client, bucket),
        lock(&client, bucket),
        rules(&client, config),
        encryption(&client, bucket)
    );
    vec![clock, versions, lock, rules, encryption]
}

async fn clock(client: &Client, bucket: &str) -> Feature {
    const NAME: &str = "clock";
    let date = Date::default();
    let request = client.head_bucket().bucket(bucket).customize();
    let answer = request.interceptor(date.clone()).send().await;
    let told = date.0.get().and_then(|text| {
        let time = jiff::fmt::rfc2822::parse(text).ok()?;
        Some(time.timestamp())
    });
    match (answer, told) {
        (Ok(_), Some(server)) => skew(Timestamp::now(), server),
        _ => Feature::new(NAME, Unknown, "the server does not tell its time"),
    }
}

fn skew(here: Timestamp, server: Timestamp) -> Feature {
    const NAME: &str = "clock";
    let off = here.duration_since(server).unsigned_abs();
    let seconds = off.as_secs();
    match off > MUCH_SKEW {
        true => Feature::new(
            NAME,
            Doubtful,
            format!("this machine and the S3 server are {seconds} seconds apart"),
        )
        .with_hint("set the clock of both by NTP: beyond 15 minutes requests are refused"),
        false => Feature::new(
            NAME,
            Good,
            match seconds {
                0 => "within a second of the S3 server".to_owned(),
                seconds => format!("within {} seconds of the S3 server", seconds + 1),
            },
        ),
    }
}

/// The `Date` of an answer.
#[derive(Clone, Debug, Default)]
struct Date(Arc<OnceLock<String>>);

impl Intercept for Date {
    fn name(&self) -> &'static str {
        "Date"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(date) = context.response().headers().get("date") {
            self.0.get_or_init(|| date.to_owned());
        }
        Ok(())
    }
}

async fn versions(client: &Client, bucket: &str) -> Feature {
    const NAME: &str = "versions";
    match client.get_bucket_versioning().bucket(bucket).send().await {
        Ok(answer) if answer.status() == Some(&BucketVersioningStatus::Enabled) => Feature::new(
            NAME,
            Doubtful,
            "the bucket keeps older versions",
        )
        .with_hint(
            "allow this access key s3:DeleteObjectVersion, or what users remove keeps its bytes",
        ),
        Ok(_) => Feature::new(NAME, Good, "the bucket keeps no older versions"),
        Err(error) => unknown(NAME, error.into()),
    }
}

async fn lock(client: &Client, bucket: &str) -> Feature {
    const NAME: &str = "object lock";
    let request = client.get_object_lock_configuration().bucket(bucket);
    match request.send().await {
        Ok(answer) => match answer
            .object_lock_configuration()
            .and_then(|lock| lock.rule())
        {
            Some(_) => Feature::new(NAME, Doubtful, "the bucket locks new objects")
                .with_hint("remove its default retention: expired files could not be deleted"),
            None => Feature::new(NAME, Good, "new objects are not locked"),
        },
        Err(error) => absent_or_unknown(NAME, error.into(), "new objects are not locked"),
    }
}

async fn rules(client: &Client, config: &S3Config) -> Feature {
    const NAME: &str = "lifecycle rules";
    let request = client
        .get_bucket_lifecycle_configuration()
        .bucket(&config.bucket);
    match request.send().await {
        Ok(answer) => match answer
            .rules()
            .iter()
            .find(|rule| deletes(rule, &config.prefix))
        {
            Some(rule) => Feature::new(
                NAME,
                Doubtful,
                format!(
                    "rule {} of the bucket deletes objects by their age",
                    rule.id().unwrap_or("without a name")
                ),
            )
            .with_hint("remove it, or keep it away from the blobs by a prefix of their own"),
            None => Feature::new(NAME, Good, "no rule deletes blobs"),
        },
        Err(error) => absent_or_unknown(NAME, error.into(), "no rule deletes blobs"),
    }
}

/// Whether the rule may delete objects under the prefix of the blobs. One that only gives up
/// unfinished uploads, or old versions, does not.
fn deletes(rule: &LifecycleRule, prefix: &str) -> bool {
    let filter = rule.filter();
    let of_rule = filter
        .and_then(|filter| filter.prefix())
        .or_else(|| filter.and_then(|filter| filter.and()?.prefix()))
        .unwrap_or_default();
    let touches = of_rule.starts_with(prefix) || prefix.starts_with(of_rule);
    let expires = rule
        .expiration()
        .is_some_and(|expiration| expiration.days().is_some() || expiration.date().is_some());
    rule.status() == &ExpirationStatus::Enabled && expires && touches
}

async fn encryption(client: &Client, bucket: &str) -> Feature {
    const NAME: &str = "encryption";
    match client.get_bucket_encryption().bucket(bucket).send().await {
        Ok(answer) => {
            let rules = answer.server_side_encryption_configuration();
            let rules = rules.map(|configuration| configuration.rules());
            let algorithm = rules.unwrap_or_default().iter().find_map(|rule| {
                Some(
                    rule.apply_server_side_encryption_by_default()?
                        .sse_algorithm()
                        .clone(),
                )
            });
            match algorithm {
                Some(algorithm) if algorithm != ServerSideEncryption::Aes256 => Feature::new(
                    NAME,
                    Doubtful,
                    format!("the bucket encrypts with {algorithm}"),
                )
                .with_hint("allow this access key to use the encryption key; blobs are then compared by reading them"),
                Some(_) => Feature::new(NAME, Good, "the bucket encrypts with its own keys"),
                None => Feature::new(NAME, Good, "the bucket encrypts nothing by itself"),
            }
        }
        Err(error) => {
            absent_or_unknown(NAME, error.into(), "the bucket encrypts nothing by itself")
        }
    }
}

/// Servers answer 404 where nothing is set.
fn absent_or_unknown(name: &'static str, failure: Failure, detail: &str) -> Feature {
    match failure.kind {
        super::error::Kind::Missing => Feature::new(name, Good, detail),
        _ => unknown(name, failure),
    }
}

fn unknown(name: &'static str, failure: Failure) -> Feature {
    Feature::new(name, Unknown, format!("the server does not say: {failure}"))
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::types::{LifecycleExpiration, LifecycleRuleFilter};

    use super::*;

    fn rule(prefix: &str, days: Option<i32>) -> LifecycleRule {
        LifecycleRule::builder()
            .status(ExpirationStatus::Enabled)
            .filter(LifecycleRuleFilter::builder().prefix(prefix).build())
            .expiration(LifecycleExpiration::builder().set_days(days).build())
            .build()
            .unwrap()
    }

    #[test]
    fn a_rule_counts_where_it_would_delete_blobs() {
        assert!(deletes(&rule("", Some(30)), "plik"));
        assert!(deletes(&rule("plik/old", Some(30)), "plik"));
        assert!(!deletes(&rule("logs", Some(30)), "plik"));
        assert!(!deletes(&rule("", None), "plik"));
    }

    #[test]
    fn clocks_far_apart_are_told() {
        let here: Timestamp = "2026-05-06T07:08:09Z".parse().unwrap();
        let minutes = |minutes: i64| here + jiff::SignedDuration::from_secs(60 * minutes);
        for (server, suitability) in [(0, Good), (4, Good), (6, Doubtful), (-6, Doubtful)] {
            assert_eq!(
                skew(here, minutes(server)).suitability,
                suitability,
                "{server}"
            );
        }
    }

    #[test]
    fn the_time_of_an_answer_is_read() {
        let time = jiff::fmt::rfc2822::parse("Wed, 06 May 2026 07:08:09 GMT").unwrap();
        assert_eq!(time.timestamp().to_string(), "2026-05-06T07:08:09Z");
    }
}
