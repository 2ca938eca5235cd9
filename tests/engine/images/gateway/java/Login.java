package standin;

import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;

/**
 * The login dialog. What happens is told by the login's name, up to its first digit or hyphen:
 * {@code twofa} asks for a second factor, approved by a file {@code approved} in the home folder or
 * after so many seconds ({@code twofa-5}); {@code locked}, {@code relaunch} (fails for ever),
 * {@code nodialog}, {@code taken} (another session) and {@code slow-N} do as they say; anyone else
 * is let in. The password {@code wrong} is always wrong.
 */
final class Login {
    private static final String SECOND_FACTOR = "Second Factor Authentication";

    private final Gateway gateway;
    private final Path folder;
    private final String user;

    Login(Gateway gateway, Path folder) {
        this.gateway = gateway;
        this.folder = folder;
        this.user = gateway.setting("IbLoginId");
    }

    void run(boolean authenticated) throws Exception {
        waitForDialog();
        for (int attempt = 1; ; attempt++) {
            Gateway.log("Login attempt: " + attempt);
            checkCredentials();
            if (authenticated || !user.startsWith("twofa") || secondFactor()) {
                break;
            }
        }
        if (user.startsWith("slow")) {
            Thread.sleep(1000L * number());
        }
        if ("paper".equals(gateway.setting("TradingMode"))) {
            Gateway.log("Click button: I understand and accept");
        }
        Gateway.log("Found Gateway main window");
        Thread.sleep(200);
    }

    private void waitForDialog() throws InterruptedException {
        if (user.startsWith("nodialog")) {
            Thread.sleep(1000L * Integer.parseInt(gateway.setting("LoginDialogDisplayTimeout")));
            Gateway.exit(Gateway.NO_LOGIN_DIALOG, "IBC closing after TWS/Gateway failed to display login dialog");
        }
        Thread.sleep(300);
    }

    private void checkCredentials() throws InterruptedException {
        if (user.isEmpty() || "wrong".equals(gateway.setting("IbPassword"))) {
            hang("detected dialog entitled: Unrecognized Username or Password; event=Opened");
        }
        if (user.startsWith("locked")) {
            hang("Too many failed login attempts. Please wait 900 seconds before attempting to re-login again.");
        }
        if (user.startsWith("relaunch")) {
            Gateway.log("Login failed");
            Gateway.exit(Gateway.COLD_RESTART, "Cold restart in progress");
        }
        if (user.startsWith("taken")) {
            takeSession();
        }
    }

    private void takeSession() throws InterruptedException {
        Gateway.log("detected dialog entitled: Existing session detected; event=Opened");
        switch (gateway.setting("ExistingSessionDetectedAction")) {
            case "primary", "primaryoverride" ->
                Gateway.log("End the other session and so continue this one (scenario 3)");
            case "secondary" -> Gateway.exit(0, "End this session and let the other session proceed (scenario 4)");
            default -> hang("User must choose whether to continue with this session");
        }
    }

    /** Whether it was approved in time; like IBC, tries again for ever when told to. */
    private boolean secondFactor() throws Exception {
        int timeout = Integer.parseInt(gateway.setting("SecondFactorAuthenticationTimeout"));
        Gateway.log("detected dialog entitled: " + SECOND_FACTOR + "; event=Opened");
        Gateway.log(SECOND_FACTOR + " initiated");
        Instant start = Instant.now();
        boolean approved = false;
        while (!approved && elapsed(start) < timeout) {
            approved = Files.exists(folder.resolve("approved")) || Files.exists(Path.of("/tmp/approved"))
                || (number() > 0 && elapsed(start) >= number());
            Thread.sleep(100);
        }
        Gateway.log("detected dialog entitled: " + SECOND_FACTOR + "; event=Closed");
        Gateway.log("Duration since login: " + elapsed(start) + " seconds");
        boolean again = "yes".equals(gateway.setting("ReloginAfterSecondFactorAuthenticationTimeout"));
        if (approved) {
            Gateway.log("Re-login after second factor authentication timeout not required");
            return true;
        }
        if (!again) {
            hang("Re-login after second factor authentication timeout not required");
        }
        Gateway.log("Re-login after second factor authentication timeout in 5 second");
        Thread.sleep(5000);
        return false;
    }

    private static long elapsed(Instant start) {
        return Duration.between(start, Instant.now()).toSeconds();
    }

    private int number() {
        String digits = user.replaceAll("\\D", "");
        return digits.isEmpty() ? 0 : Integer.parseInt(digits);
    }

    private static void hang(String line) throws InterruptedException {
        Gateway.log(line);
        Thread.sleep(Long.MAX_VALUE);
    }
}
