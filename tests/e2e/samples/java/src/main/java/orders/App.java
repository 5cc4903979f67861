package orders;

import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestHandler;
import io.opentelemetry.api.GlobalOpenTelemetry;
import io.opentelemetry.api.trace.Span;
import io.opentelemetry.context.Scope;
import java.util.Map;

/** A function as people write it. The agent comes from outside, so it knows only OpenTelemetry's API. */
public class App implements RequestHandler<Map<String, Object>, Map<String, String>> {
  static {
    System.out.println("the function is being loaded");
  }

  @Override
  public Map<String, String> handleRequest(Map<String, Object> event, Context context) {
    System.out.println("a plain line");
    context.getLogger().log("a line through the logger\n");
    Span span = GlobalOpenTelemetry.getTracer("orders").spanBuilder("price the order").startSpan();
    try (Scope scope = span.makeCurrent()) {
      System.out.println("a line within a span of its own");
    } finally {
      span.end();
    }
    if (Boolean.TRUE.equals(event.get("fail"))) {
      throw new IllegalStateException("no stock");
    }
    System.out.println("line one of two\nline two of two");
    return Map.of("handled", context.getAwsRequestId());
  }
}
