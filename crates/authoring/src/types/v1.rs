//! Names of version 1: every type a document may name and the members it must have. Nothing here says that a type
//! can be used; that is decided by `super`.

/// Linked service types with the required members of `typeProperties`.
pub(super) const LINKED_SERVICES: &[(&str, &[&str])] = &[
    ("AmazonRedshift", &["server", "database", "username", "password|encryptedCredential"]),
    ("AwsAccessKey", &["accessKeyID", "secretAccessKey|encryptedCredential"]),
    ("AzureBatch", &[]),
    ("AzureDataLakeAnalytics", &[]),
    ("AzureDataLakeStore", &["dataLakeStoreUri"]),
    ("AzureML", &[]),
    ("AzureSearch", &["url", "key|encryptedCredential"]),
    ("AzureSqlDatabase", &["connectionString"]),
    ("AzureSqlDW", &["connectionString"]),
    ("AzureStorage", &["connectionString"]),
    ("AzureStorageSas", &["sasUri"]),
    ("DocumentDb", &["connectionString"]),
    ("FtpServer", &["host", "authenticationType"]),
    ("Hdfs", &["url", "authenticationType", "gatewayName"]),
    ("HDInsight", &[]),
    ("HDInsightOnDemand", &[]),
    ("Http", &["url", "authenticationType"]),
    ("OData", &["url", "authenticationType"]),
    ("OnPremisesCassandra", &["host", "authenticationType", "gatewayName"]),
    ("OnPremisesDb2", &["server", "database", "authenticationType", "gatewayName"]),
    ("OnPremisesFileServer", &["host", "gatewayName"]),
    ("OnPremisesMongoDb", &["server", "authenticationType", "databaseName", "gatewayName"]),
    ("OnPremisesMySql", &["server", "database", "authenticationType", "gatewayName"]),
    ("OnPremisesOdbc", &["connectionString", "authenticationType", "gatewayName"]),
    ("OnPremisesOracle", &["connectionString", "gatewayName"]),
    ("OnPremisesPostgreSql", &["server", "database", "authenticationType", "gatewayName"]),
    ("OnPremisesSqlServer", &["connectionString", "gatewayName"]),
    ("OnPremisesSybase", &["server", "database", "authenticationType", "gatewayName"]),
    ("OnPremisesTeradata", &["server", "authenticationType", "gatewayName"]),
    ("Salesforce", &["username", "password|encryptedCredential", "securityToken|encryptedCredential"]),
    ("SapBw", &["server", "systemNumber", "clientId", "username", "password|encryptedCredential", "gatewayName"]),
    ("SapHana", &["server", "authenticationType", "username", "password|encryptedCredential", "gatewayName"]),
    ("Sftp", &["host", "authenticationType"]),
    ("Web", &["url", "authenticationType"]),
];

/// Types that only a gateway reaches.
pub(super) const NEED_GATEWAY: &[&str] = &[
    "Hdfs",
    "OnPremisesCassandra",
    "OnPremisesDb2",
    "OnPremisesFileServer",
    "OnPremisesMongoDb",
    "OnPremisesMySql",
    "OnPremisesOdbc",
    "OnPremisesOracle",
    "OnPremisesPostgreSql",
    "OnPremisesSqlServer",
    "OnPremisesSybase",
    "OnPremisesTeradata",
    "SapBw",
    "SapHana",
];

/// Dataset types with the required members of `typeProperties`.
pub(super) const DATASETS: &[(&str, &[&str])] = &[
    ("AmazonS3", &["bucketName"]),
    ("AzureBlob", &["folderPath"]),
    ("AzureDataLakeStore", &["folderPath"]),
    ("AzureSearchIndex", &["indexName"]),
    ("AzureSqlDWTable", &["tableName"]),
    ("AzureSqlTable", &["tableName"]),
    ("AzureTable", &["tableName"]),
    ("CassandraTable", &[]),
    ("DocumentDbCollection", &["collectionName"]),
    ("FileShare", &["folderPath"]),
    ("Http", &[]),
    ("MongoDbCollection", &["collectionName"]),
    ("ODataResource", &[]),
    ("OracleTable", &[]),
    ("RelationalTable", &[]),
    ("SqlServerTable", &["tableName"]),
    ("WebTable", &["index"]),
];

/// Activity types with the required members of `typeProperties`.
pub(super) const ACTIVITIES: &[(&str, &[&str])] = &[
    ("AzureMLBatchExecution", &[]),
    ("AzureMLBatchScoring", &[]),
    ("AzureMLUpdateResource", &[]),
    ("Copy", &["source", "sink"]),
    ("DataLakeAnalyticsU-SQL", &[]),
    ("DotNetActivity", &[]),
    ("HDInsightHive", &[]),
    ("HDInsightMapReduce", &[]),
    ("HDInsightPig", &[]),
    ("HDInsightSpark", &[]),
    ("HDInsightStreaming", &[]),
    ("SqlServerStoredProcedure", &["storedProcedureName"]),
];

/// Types of copy sources.
pub(super) const SOURCES: &[&str] = &[
    "AzureDataLakeStoreSource",
    "AzureTableSource",
    "BlobSource",
    "CassandraSource",
    "DocumentDbCollectionSource",
    "FileSystemSource",
    "HttpSource",
    "MongoDbSource",
    "OracleSource",
    "RelationalSource",
    "SqlDWSource",
    "SqlSource",
    "WebSource",
];

/// Types of copy sinks.
pub(super) const SINKS: &[&str] = &[
    "AzureDataLakeStoreSink",
    "AzureSearchIndexSink",
    "AzureTableSink",
    "BlobSink",
    "DocumentDbCollectionSink",
    "FileSystemSink",
    "OracleSink",
    "SqlDWSink",
    "SqlSink",
];
