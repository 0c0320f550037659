//! Every key of the configuration: its name, its type, its built-in value and its documentation.
//!
//! This is the only list. The file, the environment, the commented example and the tables of the
//! manual all go by it.

use super::key::settings;
use super::value::Table;

settings! {
    /// What the file and the environment said at the top level, before anything is derived.
    Settings {
        "Server" {
            /// Log at level DEBUG, whatever LogLevel says.
            "Debug" => debug: flag = false;
            /// Log every request and its answer.
            "DebugRequests" => debug_requests: flag = false;
            /// DEBUG, INFO, WARNING, CRITICAL or FATAL, in capitals; anything else means INFO.
            /// DEBUG turns on Debug and DebugRequests.
            "LogLevel" => log_level: text = "INFO";
            /// The address to listen on. 0.0.0.0 is every IPv4 address, :: every address.
            "ListenAddress" => listen_address: text = "0.0.0.0";
            /// The port to listen on; 0 takes any free one.
            "ListenPort" => listen_port: number = 8080;
            /// The address of the metrics server.
            "MetricsAddress" => metrics_address: text = "0.0.0.0";
            /// The port of the metrics server; 0 or less turns it off.
            "MetricsPort" => metrics_port: number = 0;
            /// A prefix of every URL, such as /plik, for a server behind a reverse proxy.
            "Path" => path: text = "";
            /// Serve HTTPS, with the next two files.
            "SslEnabled" => ssl_enabled: flag = false;
            /// The certificate and its chain, a PEM file.
            "SslCert" => ssl_cert: text = "";
            /// The private key, a PEM file.
            "SslKey" => ssl_key: text = "";
            /// The oldest TLS version to accept: tlsv12 or tlsv13. Empty means tlsv12; tlsv10 and
            /// tlsv11 are raised to it.
            "TlsVersion" => tls_version: text = "", shown "\"tlsv12\"";
            /// Serve the API only, no web page.
            "NoWebInterface" => no_web_interface: flag = false;
            /// The directory of the web page.
            "WebappDirectory" => webapp_directory: text = "../webapp/dist";
            /// The directory served under /clients/.
            "ClientsDirectory" => clients_directory: text = "../clients";
            /// The directory served under /changelog/.
            "ChangelogDirectory" => changelog_directory: text = "../changelog";
            /// The request header that holds the client's address, such as X-Real-IP. Set it only
            /// behind a proxy that always replaces this header; it must hold one IP address.
            "SourceIpHeader" => source_ip_header: text = "";
            /// The addresses and networks that may upload, such as ["10.0.0.0/8", "2001:db8::1"].
            /// Empty lets everybody upload.
            "UploadWhitelist" => upload_whitelist: list = [];
            /// An address for abuse reports, shown on the web page.
            "AbuseContact" => abuse_contact: text = "";
            /// How long a login lasts.
            "SessionTimeout" => session_timeout: duration = "365d";
            /// Security headers, cookies over HTTPS only, and little said about the version.
            /// Turns on AssumeHTTPS, which is the key to prefer.
            "EnhancedWebSecurity" => enhanced_web_security: flag = false;
            /// Clients reach the server over HTTPS, perhaps through a proxy: ask browsers to insist
            /// on it, and send cookies over HTTPS only. Turned on by SslEnabled, by
            /// EnhancedWebSecurity and by an https PlikDomain.
            "AssumeHTTPS" => assume_https: flag = false;
            /// Compress the files of a zip archive; false stores them as they are.
            "EnableArchiveCompression" => enable_archive_compression: flag = true;
            /// How long a streamed upload waits for its downloader; 0 waits for ever.
            "StreamTimeoutStr" => stream_timeout: duration = "5m";
        }
        "Domains" {
            /// The public URL of the web page, such as `https://plik.example.com`, without a path.
            "PlikDomain" => plik_domain: text = "";
            /// The only URL that downloads work on, such as `https://dl.example.com`, without a path.
            "DownloadDomain" => download_domain: text = "";
            /// Further URLs that downloads work on, beside DownloadDomain.
            "DownloadDomainAlias" => download_domain_alias: list = [];
        }
        "Limits and ids" {
            /// The largest file; "unlimited", -1 and 0 are no limit. If not empty, replaces
            /// MaxFileSize.
            "MaxFileSizeStr" => max_file_size_str: size = "", shown "\"10GB\"";
            /// The largest file in bytes; 0 or less is no limit. Used if MaxFileSizeStr is empty or absent.
            "MaxFileSize" => max_file_size: number = 10_000_000_000, off true;
            /// What the uploads of one user may hold together; "unlimited", -1 and 0 are no limit.
            /// Anonymous uploads are not counted. If not empty, replaces MaxUserSize.
            "MaxUserSizeStr" => max_user_size_str: size = "", shown "\"unlimited\"";
            /// The same in bytes; 0 or less is no limit. Used if MaxUserSizeStr is empty or absent.
            "MaxUserSize" => max_user_size: number = -1, off true;
            /// The most files of one upload.
            "MaxFilePerUpload" => max_file_per_upload: number = 1000;
            /// When an upload expires that asks for nothing else; 0 is never. If not empty, replaces
            /// DefaultTTL.
            "DefaultTTLStr" => default_ttl_str: duration = "", shown "\"30d\"";
            /// The same in seconds; 0 or less is never. Used if DefaultTTLStr is empty or absent.
            "DefaultTTL" => default_ttl: number = 2_592_000, off true;
            /// The longest time an upload may ask for; 0 is no limit. If not empty, replaces MaxTTL.
            "MaxTTLStr" => max_ttl_str: duration = "", shown "\"30d\"";
            /// The same in seconds; 0 or less is no limit. Used if MaxTTLStr is empty or absent.
            "MaxTTL" => max_ttl: number = 2_592_000, off true;
            /// The length of the ids of new uploads, 8 to 64.
            "UploadIDLength" => upload_id_length: number = 16;
            /// Make these ids of lower-case base 32, for places that do not tell cases apart.
            "UploadIDinB32" => upload_id_in_b32: flag = false, also "UPLOAD_ID_IN_B32";
        }
        "Features" {
            /// Accounts; "forced" allows no anonymous upload.
            "FeatureAuthentication" => feature_authentication: feature = "", shown "\"disabled\"";
            /// Login with a password kept by this server.
            "FeatureLocalLogin" => feature_local_login: switch = "", shown "\"enabled\"";
            /// Users may delete their account.
            "FeatureDeleteAccount" => feature_delete_account: switch = "", shown "\"enabled\"";
            /// Files that vanish with their first download.
            "FeatureOneShot" => feature_one_shot: feature = "", shown "\"enabled\"";
            /// Uploads whose files anybody with the link may remove.
            "FeatureRemovable" => feature_removable: feature = "", shown "\"enabled\"";
            /// Uploads that pass straight through to the downloader and are never stored.
            "FeatureStream" => feature_stream: feature = "", shown "\"enabled\"";
            /// Uploads protected by a login and a password.
            "FeaturePassword" => feature_password: feature = "", shown "\"enabled\"";
            /// Comments on uploads; "forced" is the same as "default".
            "FeatureComments" => feature_comments: feature = "", shown "\"enabled\"";
            /// Uploads may choose when they expire; "disabled" gives all of them DefaultTTL.
            "FeatureSetTTL" => feature_set_ttl: feature = "", shown "\"enabled\"";
            /// Uploads whose expiry moves on with every download.
            "FeatureExtendTTL" => feature_extend_ttl: feature = "", shown "\"disabled\"";
            /// The button on the web page to download the command line client.
            "FeatureClients" => feature_clients: switch = "", shown "\"enabled\"";
            /// API tokens of users. "disabled" with a forced FeatureAuthentication disables
            /// FeatureClients too.
            "FeatureApiTokens" => feature_api_tokens: switch = "", shown "\"enabled\"";
            /// The link on the web page to the source code.
            "FeatureGithub" => feature_github: switch = "", shown "\"enabled\"";
            /// Uploads of text typed into the web page.
            "FeatureText" => feature_text: feature = "", shown "\"enabled\"";
            /// Uploads encrypted in the browser.
            "FeatureE2EE" => feature_e2ee: feature = "", shown "\"enabled\"", also "FEATURE_E2EE";
        }
        "Login providers" {
            /// Login with Google, if this and the secret are set.
            "GoogleApiClientID" => google_api_client_id: text = "";
            /// The secret that goes with it.
            "GoogleApiSecret" => google_api_secret: secret = "";
            /// The e-mail domains of Google accounts to accept; empty accepts all.
            "GoogleValidDomains" => google_valid_domains: list = [];
            /// Login with OVH, if this and the secret are set.
            "OvhApiKey" => ovh_api_key: text = "";
            /// The secret that goes with it.
            "OvhApiSecret" => ovh_api_secret: secret = "";
            /// The API to ask; empty means the European one.
            "OvhApiEndpoint" => ovh_api_endpoint: text = "https://eu.api.ovh.com/1.0";
            /// Login with OpenID Connect, if this, the secret and the URL are set.
            "OIDCClientID" => oidc_client_id: text = "";
            /// The secret that goes with it.
            "OIDCClientSecret" => oidc_client_secret: secret = "";
            /// The issuer's URL.
            "OIDCProviderURL" => oidc_provider_url: text = "";
            /// The text of the login button.
            "OIDCProviderName" => oidc_provider_name: text = "OpenID";
            /// The e-mail domains of OpenID accounts to accept; empty accepts all.
            "OIDCValidDomains" => oidc_valid_domains: list = [];
            /// Accept only e-mail addresses that the provider has verified.
            "OIDCRequireVerifiedEmail" => oidc_require_verified_email: flag = false;
            /// Login with GitHub, if this and the secret are set.
            "GitHubApiClientID" => github_api_client_id: text = "", also "GITHUB_API_CLIENT_ID";
            /// The secret that goes with it.
            "GitHubApiSecret" => github_api_secret: secret = "", also "GITHUB_API_SECRET";
            /// The GitHub organizations whose members to accept; empty accepts all.
            "GitHubValidOrganizations" => github_valid_organizations: list = [],
                also "GITHUB_VALID_ORGANIZATIONS";
            /// An administrator to create at the start if there is none of this login; at least 4
            /// characters.
            "DefaultAdminLogin" => default_admin_login: text = "";
            /// The administrator's first password, at least 8 characters; empty makes one up and
            /// logs it.
            "DefaultAdminPassword" => default_admin_password: secret = "";
        }
        "Upgrades and plugins" {
            /// The directory of plugins; it may be absent.
            "PluginsDirectory" => plugins_directory: text = "plugins";
            /// The directory of preset plugins; empty is none.
            "PresetPluginsDirectory" => preset_plugins_directory: text = "";
            /// Upgrade the database at the start, in place of refusing to start.
            "UpgradeAuto" => upgrade_auto: flag = false;
            /// The memory that the upgrade scripts of one package may use.
            "UpgradeScriptMemoryStr" => upgrade_script_memory: size = "256MiB";
            /// The time that one upgrade script may take.
            "UpgradeScriptTimeoutStr" => upgrade_script_timeout: duration = "10m";
        }
        "Older names" {
            /// Before FeatureAuthentication: true is "enabled".
            "Authentication" => authentication: flag = false, off true;
            /// Before FeatureAuthentication: true is "forced".
            "NoAnonymousUploads" => no_anonymous_uploads: flag = false, off true;
            /// Before FeatureOneShot: true is "enabled", false is "disabled".
            "OneShot" => one_shot: flag = true, off true;
            /// Before FeatureRemovable, likewise.
            "Removable" => removable: flag = true, off true;
            /// Before FeatureStream, likewise.
            "Stream" => stream: flag = true, off true;
            /// Before FeaturePassword, likewise.
            "ProtectedByPassword" => protected_by_password: flag = true, off true;
        }
        "Backends" {
            /// Where the bytes of files are kept: file (a local directory) or s3.
            "DataBackend" => data_backend: text = "file";
            /// The settings of the data backend.
            "DataBackendConfig" => data_backend_config: table = Table::new();
            /// The settings of the database.
            "MetadataBackendConfig" => metadata_backend_config: table = Table::new();
        }
    }
}

settings! {
    /// `[MetadataBackendConfig]`.
    MetadataSettings {
        "Database" {
            /// sqlite3 or postgres.
            "Driver" => driver: text = "sqlite3";
            /// The SQLite file, or how to reach PostgreSQL: postgres://user:password@host:5432/plik
            /// or "host=… user=… password=… dbname=… sslmode=…".
            "ConnectionString" => connection_string: secret = "plik.db";
            /// Log every SQL statement.
            "Debug" => debug: flag = false;
            /// Log a warning about slower statements: a number with a unit from ns to h, without
            /// days; empty is 1s, 0 never warns.
            "SlowQueryThreshold" => slow_query_threshold: text = "", shown "\"1s\"";
            /// The most connections at a time; 0 leaves it to the program.
            "MaxOpenConns" => max_open_conns: number = 0;
            /// The most connections kept open while idle; 0 leaves it to the program.
            "MaxIdleConns" => max_idle_conns: number = 0;
            /// Would drop all tables at every start: plikd refuses to run with true.
            "EraseFirst" => erase_first: flag = false, off true;
        }
    }
}

settings! {
    /// `[DataBackendConfig]` of `DataBackend = "file"`.
    FileSettings {
        "Local files" {
            /// The directory of the files; a relative one is under the working directory.
            "Directory" => directory: text = "files";
        }
    }
}

settings! {
    /// `[DataBackendConfig]` of `DataBackend = "s3"`.
    S3Settings {
        "S3" {
            /// The server, as host or host:port, without https://. Required.
            "Endpoint" => endpoint: text = "";
            /// Required.
            "AccessKeyID" => access_key_id: text = "";
            /// Required.
            "SecretAccessKey" => secret_access_key: secret = "";
            /// The bucket; it is created at the start if it does not exist.
            "Bucket" => bucket: text = "plik";
            /// The region in which to create the bucket.
            "Location" => location: text = "us-east-1";
            /// A folder in the bucket, put before the name of every object.
            "Prefix" => prefix: text = "";
            /// Reach the server over HTTPS.
            "UseSSL" => use_ssl: flag = false;
            /// Bytes of one part of a large file, at least 5 MiB. Smaller files go in one request.
            "PartSize" => part_size: number = 16_777_216;
            /// Encryption at rest: "" for none, "S3" with the server's key, "SSE-C" with a key of
            /// its own for each file, kept in the database.
            "SSE" => sse: text = "";
            /// Parts of one file sent at the same time.
            "PartUploadConcurrency" => part_upload_concurrency: number = 4;
            /// Send Content-MD5 in place of the newer checksum headers, which some servers refuse.
            "SendContentMd5" => send_content_md5: flag = false;
            /// How the bucket stands in the URL: "dns" in the host name, "path" in the path, "auto"
            /// as the endpoint needs it.
            "BucketLookup" => bucket_lookup: text = "auto";
        }
    }
}
