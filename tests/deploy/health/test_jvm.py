"""Flags of the running JVM against the wanted ones."""

from infrastructure.health.probes import java_flags, missing_flags

MAIN = "ibcalpha.ibc.IbcGateway /home/ibgateway/ibc/config.ini"


def test_flags_are_read_from_the_gateways_jvm_only() -> None:
    programs = [
        "/bin/bash /home/ibgateway/scripts/run.sh",
        "java -Xmx64m -version",
        f"/usr/local/i4j_jres/bin/java -Xmx256m -XX:+UseSerialGC -cp jars/a.jar {MAIN}",
    ]
    assert java_flags(programs) == ["-Xmx256m", "-XX:+UseSerialGC"]
    assert java_flags(programs[:2]) is None


def test_all_there() -> None:
    wanted = ["-Xmx256m", "-XX:+UseSerialGC", "-XX:MaxMetaspaceSize=128m"]
    found = [each.encode().decode() for each in wanted]  # other objects, as they are read
    assert missing_flags(wanted, [*found, "-XX:ParallelGCThreads=20"]) == []


def test_the_image_s_defaults_contradict() -> None:
    found = ["-Xmx768m", "-XX:+UseG1GC"]
    assert missing_flags(["-Xmx256m", "-XX:+UseSerialGC", "-Xms256m"], found) == [
        "-Xmx256m (is -Xmx768m)",
        "-XX:+UseSerialGC (is -XX:+UseG1GC)",
        "-Xms256m (is not set)",
    ]


def test_the_last_of_a_name_wins() -> None:
    assert missing_flags(["-Xmx256m"], ["-Xmx256m", "-Xmx512m"]) == ["-Xmx256m (is -Xmx512m)"]
    assert missing_flags(["-Xmx512m"], ["-Xmx256m", "-Xmx512m"]) == []


def test_a_switch_turned_off_later() -> None:
    assert missing_flags(["-XX:+AlwaysPreTouch"], ["-XX:+AlwaysPreTouch", "-XX:-AlwaysPreTouch"])


def test_only_what_one_option_sets_contradicts() -> None:
    """The heap's limit, its beginning, the young part and the stack are four things."""
    found = ["-Xms64m", "-Xmn16m", "-Xss1m", "-XX:MaxMetaspaceSize=128m"]
    assert missing_flags(["-Xmx256m"], found) == ["-Xmx256m (is not set)"]
    assert missing_flags(["-Xmn16m", "-Xss1m", "-Xms64m"], found) == []
    assert missing_flags(["-XX:MaxMetaspaceSize=128"], found) == [
        "-XX:MaxMetaspaceSize=128 (is -XX:MaxMetaspaceSize=128m)"
    ]
