//! Finds the bucket, in whichever region it is, and creates it if that is wanted.

use aws_sdk_s3::Client;
use aws_sdk_s3::types::{BucketLocationConstraint, CreateBucketConfiguration};

use super::client;
use super::error::{Failure, Kind};
use crate::config::S3Config;
use crate::data::location::bucket_name;
use crate::data::{Access, DataError, Tuning};

/// The region that needs no mention, and that answers for all others.
const FIRST_REGION: &str = "us-east-1";

/// A client that is known to reach the bucket, and whether the bucket is absent.
pub(super) async fn open(
    config: &S3Config,
    access: Access,
    tuning: &Tuning,
) -> Result<(Client, bool), DataError> {
    let bucket = &config.bucket;
    let failed = |failure: Failure| failure.into_data_error("open it".into(), place(config));
    let found = find(config, tuning)
        .await
        .map_err(|f| failed(f.after(&format!("unable to check if bucket {bucket} exists"))))?;
    if let Some(client) = found {
        return Ok((client, false));
    }
    let client = client::new(config, &config.location, tuning);
    match access {
        Access::Probe => Ok((client, true)),
        Access::ReadOnly => Err(failed(Failure::bucket_missing())),
        Access::Serve => {
            create(&client, config)
                .await
                .map_err(|f| failed(f.after(&format!("unable to create bucket {bucket}"))))?;
            Ok((client, false))
        }
    }
}

/// The bucket as messages name it.
pub(super) fn place(config: &S3Config) -> String {
    bucket_name(&config.endpoint, &config.bucket, &config.prefix)
}

/// A client for the region of the bucket; `None` if there is no such bucket.
async fn find(config: &S3Config, tuning: &Tuning) -> Result<Option<Client>, Failure> {
    let client = client::new(config, &config.location, tuning);
    let failure = match head(&client, &config.bucket).await {
        Ok(()) => return Ok(Some(client)),
        Err(failure) if is_absence(&failure) => return Ok(None),
        Err(failure) if failure.kind == Kind::Unreachable => return Err(failure),
        Err(failure) => failure,
    };
    // Most likely it is in another region than `Location`, which is meant for creating it.
    let region = match &failure.region {
        Some(region) if *region != config.location => region.clone(),
        // Or we are refused: this answer, unlike that to HEAD, has a text that says why.
        _ => match ask_region(config, tuning).await {
            Ok(region) => region,
            Err(told) if is_absence(&told) => return Ok(None),
            Err(told) => return Err(told),
        },
    };
    if region == config.location {
        return Err(failure);
    }
    let client = client::new(config, &region, tuning);
    match head(&client, &config.bucket).await {
        Ok(()) => Ok(Some(client)),
        Err(failure) if is_absence(&failure) => Ok(None),
        Err(failure) => Err(failure),
    }
}

fn is_absence(failure: &Failure) -> bool {
    matches!(failure.kind, Kind::Missing | Kind::BucketMissing)
}

async fn head(client: &Client, bucket: &str) -> Result<(), Failure> {
    client.head_bucket().bucket(bucket).send().await?;
    Ok(())
}

async fn ask_region(config: &S3Config, tuning: &Tuning) -> Result<String, Failure> {
    let answer = client::new(config, FIRST_REGION, tuning)
        .get_bucket_location()
        .bucket(&config.bucket)
        .send()
        .await?;
    let region = match answer.location_constraint() {
        // Names from before regions had names.
        Some(BucketLocationConstraint::Eu) => "eu-west-1",
        Some(region) if !region.as_str().is_empty() => region.as_str(),
        _ => FIRST_REGION,
    };
    Ok(region.to_owned())
}

async fn create(client: &Client, config: &S3Config) -> Result<(), Failure> {
    // S3 refuses to be told the region that it takes by itself.
    let place = (config.location != FIRST_REGION).then(|| {
        CreateBucketConfiguration::builder()
            .location_constraint(BucketLocationConstraint::from(config.location.as_str()))
            .build()
    });
    let created = client
        .create_bucket()
        .bucket(&config.bucket)
        .set_create_bucket_configuration(place)
        .send()
        .await;
    match created {
        Ok(_) => Ok(()),
        // Another server started at the same time.
        Err(error)
            if error
                .as_service_error()
                .is_some_and(|error| error.is_bucket_already_owned_by_you()) =>
        {
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}
