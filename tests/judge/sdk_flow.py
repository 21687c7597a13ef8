"""Drives the service through azure-mgmt-datafactory 9.3.0, a client nobody here wrote.

    sdk_flow.py gateway CONFIG     makes a factory and a gateway; prints the gateway's first key
    sdk_flow.py copy CONFIG        linked services, datasets, pipelines, runs; prints the outputs of the activities as JSON
    sdk_flow.py errors CONFIG      wrong requests and what the client makes of the answers
    sdk_flow.py cleanup CONFIG     deletes everything again

CONFIG is a JSON file: url, ca, tokenFile, postgres {host, port, database, user, passwordFile, table},
azurite {endpoint, keyFile, container}, folder.
"""

import datetime
import json
import os
import sys
import time

from azure.core.credentials import AccessToken
from azure.core.exceptions import (ClientAuthenticationError, HttpResponseError, ResourceExistsError,
                                   ResourceModifiedError, ResourceNotFoundError, ResourceNotModifiedError)
from azure.mgmt.datafactory import DataFactoryManagementClient
from azure.mgmt.datafactory import models as m

GROUP, FACTORY, GATEWAY = "plants", "sdk-factory", "sdk-gateway"
SUBSCRIPTION = "00000000-0000-0000-0000-000000000001"


class Token:
    def __init__(self, text):
        self.text = text

    def get_token(self, *scopes, **kwargs):
        return AccessToken(self.text, int(time.time()) + 3600)


def client_of(config, token=None):
    token = token or open(config["tokenFile"]).read().strip()
    return DataFactoryManagementClient(
        Token(token), SUBSCRIPTION, base_url=config["url"], credential_scopes=["https://localhost/.default"],
        connection_verify=config["ca"], retry_total=0, polling_interval=1)


def window():
    now = datetime.datetime.now(datetime.timezone.utc)
    day = datetime.timedelta(days=1)
    return m.RunFilterParameters(last_updated_after=now - day, last_updated_before=now + day)


def gateway(client, config):
    made = client.factories.create_or_update(GROUP, FACTORY, m.Factory(location="onprem", tags={"a": "b"}))
    assert made.name == FACTORY and made.provisioning_state == "Succeeded", made
    assert client.factories.get(GROUP, FACTORY).tags == {"a": "b"}
    assert FACTORY in [f.name for f in client.factories.list_by_resource_group(GROUP)]
    assert FACTORY in [f.name for f in client.factories.list()]
    runtime = m.IntegrationRuntimeResource(properties=m.SelfHostedIntegrationRuntime(description="of the test"))
    made = client.integration_runtimes.create_or_update(GROUP, FACTORY, GATEWAY, runtime)
    assert made.properties.type == "SelfHosted" and made.etag, made
    state = client.integration_runtimes.get_status(GROUP, FACTORY, GATEWAY).properties
    assert state.state == "NeedRegistration", state.state
    keys = client.integration_runtimes.list_auth_keys(GROUP, FACTORY, GATEWAY)
    assert keys.auth_key1 != keys.auth_key2
    again = client.integration_runtimes.regenerate_auth_key(
        GROUP, FACTORY, GATEWAY, m.IntegrationRuntimeRegenerateKeyParameters(key_name="authKey2"))
    assert again.auth_key2 != keys.auth_key2
    print(keys.auth_key1)


def wait_online(client):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        status = client.integration_runtimes.get_status(GROUP, FACTORY, GATEWAY).properties
        if status.state == "Online" and status.nodes:
            assert status.nodes[0].status == "Online", status.nodes[0].status
            return status
        time.sleep(0.2)
    raise SystemExit(f"the gateway is {status.state}, not Online")


def define(client, config):
    pg, blob = config["postgres"], config["azurite"]
    password = open(pg["passwordFile"]).read().strip()
    key = open(blob["keyFile"]).read().strip()
    via = m.IntegrationRuntimeReference(type="IntegrationRuntimeReference", reference_name=GATEWAY)

    def put_linked(name, properties):
        made = client.linked_services.create_or_update(GROUP, FACTORY, name, m.LinkedServiceResource(properties=properties))
        text = json.dumps(made.serialize()) + json.dumps(client.linked_services.get(GROUP, FACTORY, name).serialize())
        assert password not in text and key not in text, f"{name} shows its secret"
        assert made.properties.type == properties.type

    put_linked("pg", m.PostgreSqlV2LinkedService(
        server=pg["host"], port=pg["port"], username=pg["user"], database=pg["database"], ssl_mode=0,
        authentication_type="Basic", password=m.SecureString(value=password), connect_via=via))
    put_linked("blob", m.AzureBlobStorageLinkedService(
        connection_string=m.SecureString(value=f"DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey={key};"
                                               f"BlobEndpoint={blob['endpoint']}"), connect_via=via))

    def put_dataset(name, properties):
        client.datasets.create_or_update(GROUP, FACTORY, name, m.DatasetResource(properties=properties))
        assert client.datasets.get(GROUP, FACTORY, name).properties.type == properties.type

    pg_ref = m.LinkedServiceReference(type="LinkedServiceReference", reference_name="pg")
    blob_ref = m.LinkedServiceReference(type="LinkedServiceReference", reference_name="blob")
    put_dataset("table", m.PostgreSqlV2TableDataset(
        linked_service_name=pg_ref, schema_type_properties_schema="public", table=pg["table"]))
    location = {"container": blob["container"], "folder_path": "out"}
    put_dataset("parquet", m.ParquetDataset(
        linked_service_name=blob_ref, compression_codec="snappy",
        location=m.AzureBlobStorageLocation(file_name="t.parquet", **location)))
    # The original's defaults do not tell NULL from empty text; a quoted file with another marker does.
    put_dataset("text", m.DelimitedTextDataset(
        linked_service_name=blob_ref, column_delimiter=",", quote_char='"', escape_char='"', null_value="\\N",
        first_row_as_header=True,
        location=m.AzureBlobStorageLocation(file_name={"value": "@dataset().file", "type": "Expression"}, **location),
        parameters={"file": m.ParameterSpecification(type="String")}))

    def reference(name, **parameters):
        return m.DatasetReference(type="DatasetReference", reference_name=name, parameters=parameters or None)

    copies = [
        m.CopyActivity(name="to parquet", inputs=[reference("table")], outputs=[reference("parquet")],
                       source=m.PostgreSqlV2Source(), sink=m.ParquetSink(store_settings=m.AzureBlobStorageWriteSettings())),
        m.CopyActivity(name="to text", inputs=[reference("table")],
                       outputs=[reference("text", file={"value": "@pipeline().parameters.file", "type": "Expression"})],
                       depends_on=[m.ActivityDependency(activity="to parquet", dependency_conditions=["Succeeded"])],
                       source=m.PostgreSqlV2Source(), sink=m.DelimitedTextSink(
                           store_settings=m.AzureBlobStorageWriteSettings(),
                           format_settings=m.DelimitedTextWriteSettings(file_extension=".csv", quote_all_text=True))),
    ]
    pipeline = m.PipelineResource(activities=copies, parameters={"file": m.ParameterSpecification(type="String")})
    client.pipelines.create_or_update(GROUP, FACTORY, "both", pipeline)
    assert [p.name for p in client.pipelines.list_by_factory(GROUP, FACTORY)] == ["both"]
    assert sorted(d.name for d in client.datasets.list_by_factory(GROUP, FACTORY)) == ["parquet", "table", "text"]
    assert sorted(s.name for s in client.linked_services.list_by_factory(GROUP, FACTORY)) == ["blob", "pg"]


def finish(client, run_id, seconds=60):
    deadline = time.monotonic() + seconds
    while True:
        run = client.pipeline_runs.get(GROUP, FACTORY, run_id)
        if run.status not in ("Queued", "InProgress"):
            return run
        if time.monotonic() > deadline:
            raise SystemExit(f"run {run_id} is still {run.status}")
        time.sleep(0.2)


def copy(client, config):
    wait_online(client)
    define(client, config)
    run_id = client.pipelines.create_run(GROUP, FACTORY, "both", parameters={"file": "t.csv"}).run_id
    run = finish(client, run_id)
    activities = client.activity_runs.query_by_pipeline_run(GROUP, FACTORY, run_id, window()).value
    if run.status != "Succeeded":
        raise SystemExit(f"{run.status}: {run.message}; {[a.error for a in activities]}")
    runs = client.pipeline_runs.query_by_factory(GROUP, FACTORY, window()).value
    assert run_id in [r.run_id for r in runs]
    outputs = {}
    for activity in activities:
        assert activity.status == "Succeeded" and activity.activity_type == "Copy", activity.status
        for member in ("rowsRead", "rowsCopied", "dataRead", "dataWritten", "throughput", "copyDuration"):
            assert member in activity.output, f"{member} is not in the output of {activity.activity_name}"
        outputs[activity.activity_name] = activity.output
    fetch(config)
    print(json.dumps(outputs))


def fetch(config):
    """The blobs, by the stores' own client, into the folder."""
    from azure.storage.blob import BlobServiceClient

    blob = config["azurite"]
    service = BlobServiceClient(blob["endpoint"], credential=open(blob["keyFile"]).read().strip(), api_version="2025-11-05")
    for name in ("t.parquet", "t.csv"):
        data = service.get_blob_client(blob["container"], f"out/{name}").download_blob().readall()
        with open(os.path.join(config["folder"], name), "wb") as file:
            file.write(data)


def expect(error, call, code=None):
    try:
        call()
    except error as raised:
        if code and (raised.error is None or raised.error.code != code):
            raise SystemExit(f"{raised.error and raised.error.code} instead of {code}: {raised}")
        return raised
    raise SystemExit(f"no {error.__name__} came")


def errors(client, config):
    expect(ResourceNotFoundError, lambda: client.pipelines.get(GROUP, FACTORY, "nothing"))
    expect(ResourceNotFoundError, lambda: client.factories.get(GROUP, "nothing"))
    expect(ResourceNotFoundError, lambda: client.pipelines.create_run(GROUP, FACTORY, "nothing"))
    expect(ClientAuthenticationError, lambda: client_of(config, "wrong").factories.get(GROUP, FACTORY))
    expect(HttpResponseError, lambda: client.linked_services.delete(GROUP, FACTORY, "pg"))
    assert client.linked_services.get(GROUP, FACTORY, "pg").name == "pg", "a used linked service was deleted"
    pipeline = client.pipelines.get(GROUP, FACTORY, "both")
    expect(HttpResponseError, lambda: client.pipelines.create_or_update(GROUP, FACTORY, "both", pipeline, if_match="\"old\""))
    again = client.pipelines.get(GROUP, FACTORY, "BOTH", if_none_match=pipeline.etag)
    assert again is None, "304 was expected"
    ref = m.LinkedServiceReference(type="LinkedServiceReference", reference_name="nothing")
    dataset = m.DatasetResource(properties=m.PostgreSqlV2TableDataset(linked_service_name=ref, table="t"))
    expect(HttpResponseError, lambda: client.datasets.create_or_update(GROUP, FACTORY, "lost", dataset))
    # An original's store without a connector here: stored, and refused at run time with that reason.
    via = m.IntegrationRuntimeReference(type="IntegrationRuntimeReference", reference_name=GATEWAY)
    oracle = m.OracleLinkedService(connection_string="Host=db;Port=1521;Sid=d;User Id=u", connect_via=via)
    client.linked_services.create_or_update(GROUP, FACTORY, "later", m.LinkedServiceResource(properties=oracle))
    later = m.LinkedServiceReference(type="LinkedServiceReference", reference_name="later")
    table = m.OracleTableDataset(linked_service_name=later, table="t")
    client.datasets.create_or_update(GROUP, FACTORY, "later", m.DatasetResource(properties=table))

    def reference(name):
        return m.DatasetReference(type="DatasetReference", reference_name=name)

    activity = m.CopyActivity(name="later", inputs=[reference("later")], outputs=[reference("parquet")],
                              source=m.OracleSource(), sink=m.ParquetSink())
    client.pipelines.create_or_update(GROUP, FACTORY, "later", m.PipelineResource(activities=[activity]))
    run = finish(client, client.pipelines.create_run(GROUP, FACTORY, "later").run_id)
    assert run.status == "Failed" and "UserErrorNotSupported" in json.dumps(
        [a.error for a in client.activity_runs.query_by_pipeline_run(GROUP, FACTORY, run.run_id, window()).value]), run.message
    print("errors are as they should be")


def cleanup(client, config):
    for pipeline in list(client.pipelines.list_by_factory(GROUP, FACTORY)):
        client.pipelines.delete(GROUP, FACTORY, pipeline.name)
    for dataset in list(client.datasets.list_by_factory(GROUP, FACTORY)):
        client.datasets.delete(GROUP, FACTORY, dataset.name)
    for service in list(client.linked_services.list_by_factory(GROUP, FACTORY)):
        client.linked_services.delete(GROUP, FACTORY, service.name)
    client.integration_runtimes.delete(GROUP, FACTORY, GATEWAY)
    client.factories.delete(GROUP, FACTORY)
    expect(ResourceNotFoundError, lambda: client.factories.get(GROUP, FACTORY))
    print("nothing is left")


if __name__ == "__main__":
    with open(sys.argv[2]) as text:
        settings = json.load(text)
    {"gateway": gateway, "copy": copy, "errors": errors, "cleanup": cleanup}[sys.argv[1]](client_of(settings), settings)
