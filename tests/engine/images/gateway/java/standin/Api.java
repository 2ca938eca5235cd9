package standin;

import java.io.File;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/** What stands behind the API port once the login is complete: the project's simulator. */
final class Api {
    private Process process;

    /** Starts it on 4001 (live) or 4002 (paper), or on the port that the environment names. */
    void start(boolean live) throws IOException {
        String interpreter = System.getenv().getOrDefault("GANGWAY_STANDIN_PYTHON", "/opt/simulator/bin/python");
        if (interpreter.equals("none")) {
            return;
        }
        String port = System.getenv().getOrDefault("GANGWAY_STANDIN_PORT", live ? "4001" : "4002");
        // A gateway that is killed takes its port with it: so the simulator ends when our end of the pipe does.
        List<String> command = new ArrayList<>(List.of("bash", "-c",
            "\"$@\" </dev/null & cat >/dev/null; kill -KILL $!", "api",
            interpreter, "-m", "simulator", "--listen", "127.0.0.1", "--port", port));
        // The account outlives this program only where a test says where it is kept.
        String state = System.getenv().getOrDefault("GANGWAY_STANDIN_STATE", "");
        if (!state.isEmpty()) {
            command.addAll(List.of("--state", state));
        }
        ProcessBuilder builder = new ProcessBuilder(command);
        builder.directory(new File(System.getenv().getOrDefault("GANGWAY_STANDIN_SIMULATOR", "/opt/simulator")));
        if (interpreter.startsWith("/opt/simulator")) {
            builder.environment().put("PYTHONHOME", "/usr");
            builder.environment().put("PYTHONPATH", "/opt/simulator/packages");
        }
        builder.redirectError(Path.of("/tmp", "simulator-" + port + ".log").toFile());
        process = builder.start();
        if (process.inputReader().readLine() == null) {
            throw new IOException("the simulator did not start");
        }
    }

    /** The port closes while the program stays. */
    void stop() {
        if (process != null) {
            process.destroy();
        }
    }
}
