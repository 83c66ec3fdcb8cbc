from shared.kafka import settings_from


def test_variables_become_settings() -> None:
    environment = {
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_SASL_MECHANISM": "SCRAM-SHA-256",
        "KAFKA_SSL_CA_LOCATION": "/ca.pem",
        "RECO_KAFKA": "broker:9092",
        "PATH": "/bin",
    }
    assert settings_from(environment) == {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-256",
        "ssl.ca.location": "/ca.pem",
    }
