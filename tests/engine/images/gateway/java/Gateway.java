package standin;

import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.LocalDateTime;
import java.time.format.DateTimeFormatter;
import java.util.Properties;

/**
 * Stands in for IB Gateway under IBC: the same states in the same words, and a simulator behind the
 * API port once the login is complete. The login name says what happens (see {@link Login}).
 */
public final class Gateway {
    static final int COLD_RESTART = 1100;
    static final int LOGIN_INCOMPLETE = 1111;
    static final int NO_LOGIN_DIALOG = 1112;
    static final int BAD_COLD_RESTART_TIME = 81;
    static final int SETTINGS_NOT_WRITABLE = 85;

    private static final DateTimeFormatter STAMP = DateTimeFormatter.ofPattern("yyyy-MM-dd HH:mm:ss:SSS");
    private static byte[][] memory;

    private final Properties settings;
    private final Path folder;
    private Process simulator;

    private Gateway(Properties settings, Path folder) {
        this.settings = settings;
        this.folder = folder;
    }

    public static void main(String[] arguments) throws Exception {
        Properties settings = new Properties();
        try (InputStream file = Files.newInputStream(Path.of(arguments[0]))) {
            settings.load(file);
        }
        new Gateway(settings, Path.of(arguments[1])).run();
    }

    static void log(String text) {
        System.out.println(LocalDateTime.now().format(STAMP) + " IBC: " + text);
        System.out.flush();
    }

    static void exit(int code, String text) {
        log(text);
        if (code != 0) {
            log("Exiting after error with exit code=" + code);
        }
        System.exit(code);
    }

    String setting(String name) {
        return settings.getProperty(name, "").trim();
    }

    private void run() throws Exception {
        memory = hold();
        log("Starting Gateway");
        JtsIni.enforce(folder.resolve("jts.ini"), setting("TrustedTwsApiClientIPs"));
        Schedule schedule = new Schedule(this);
        boolean authenticated = Files.deleteIfExists(folder.resolve("autorestart"));
        Files.deleteIfExists(folder.resolve("paused"));
        new CommandServer(this).start();
        new Login(this, folder).run(authenticated);
        startSimulator();
        log("Login has completed");
        log("Configuration tasks completed");
        schedule.start();
        simulator.waitFor();
        exit(0, "Gateway finished");
    }

    /** A real Gateway's heap is mostly full: a third of the allowed heap is held and touched. */
    private static byte[][] hold() {
        int megabytes = (int) Math.min(96, Runtime.getRuntime().maxMemory() / 3 / 1_048_576);
        byte[][] blocks = new byte[megabytes][1_048_576];
        for (byte[] block : blocks) {
            java.util.Arrays.fill(block, (byte) 1);
        }
        return blocks;
    }

    private void startSimulator() throws IOException {
        String port = "live".equals(setting("TradingMode")) ? "4001" : "4002";
        ProcessBuilder builder = new ProcessBuilder(
            "/opt/simulator/bin/python", "-m", "simulator", "--listen", "127.0.0.1", "--port", port);
        builder.directory(Path.of("/opt/simulator").toFile());
        builder.environment().put("PYTHONHOME", "/usr");
        builder.environment().put("PYTHONPATH", "/opt/simulator/packages");
        builder.redirectError(Path.of("/tmp/simulator.log").toFile());
        builder.redirectOutput(ProcessBuilder.Redirect.PIPE);
        simulator = builder.start();
        Runtime.getRuntime().addShutdownHook(new Thread(simulator::destroy));
        if (simulator.inputReader().readLine() == null) {
            log("Exception: " + Files.readString(Path.of("/tmp/simulator.log")));
            System.exit(1);
        }
    }

    /** Soft: the file lets the next start log in without a second factor. */
    void restart() throws IOException {
        Files.writeString(folder.resolve("autorestart"), "token");
        log("Re-starting session");
        System.exit(0);
    }

    void pause() throws IOException {
        Files.writeString(folder.resolve("autorestart"), "token");
        Files.writeString(folder.resolve("paused"), "");
        exit(0, "Gateway paused");
    }

    static int held() {
        return memory.length;
    }
}
